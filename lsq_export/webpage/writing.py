"""write_page: a folder with a page that runs the network of a bundle, for any static server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from calib.errors import QuantizationError, shown
from lsq_export.bundle.directory import Bundle, open_bundle
from lsq_export.bundle.layout import MODEL, SUMS
from lsq_export.bundle.reading import the_bundles_fault
from lsq_export.bundle.sums import write_sums
from lsq_export.files import temporary
from lsq_export.files.atomic import sync_tree
from lsq_export.files.exchange import exchange
from lsq_export.files.text import write_json, write_text

from .page_contents import SAMPLE, page_contents
from .web_runtime import MODULE, SCRIPT, web_runtime

STATIC = ("index.html", "page.css", "page.js", "network.js", "picture.js")
RUNTIME = {SCRIPT: "ort.js", MODULE: "ort.wasm"}  # not every server knows what an .mjs is
README, ABOUT, GOLDEN = "README.md", "network.json", "golden.bin"
NAMES = {*STATIC, *RUNTIME.values(), README, ABOUT, GOLDEN, MODEL, SAMPLE, SUMS}


def write_page(
    bundle: Bundle | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    format: str | None = None,
    runtime: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> Path:
    """Write the folder `out`; it appears whole or not at all.

    format: of the bundle; None: qoperator, if it is there. runtime: the folder of the npm package onnxruntime-web;
    None: that of `replay`, or npm fetches it. force: replace a page that is in `out`.
    Errors (QuantizationError): `out` is not empty and no page; a network that pages cannot hold; no onnxruntime-web;
    of these a DamagedError: files of the bundle that are not what was exported.
    """
    bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    target = Path(os.path.realpath(out))
    _check_place(target, out, force)
    found = web_runtime(None if runtime is None else Path(runtime))
    with the_bundles_fault(bundle.directory, lambda error: False):
        contents = page_contents(bundle, format, found.version)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.new_folder(target, lambda folder: shutil.rmtree(folder, ignore_errors=True)) as folder:
            for name in STATIC:
                text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
                write_text(folder / name, text)
            for source, name in RUNTIME.items():
                shutil.copyfile(found.files[source], folder / name)
            for name, content in contents.files.items():
                (folder / name).write_bytes(content)
            write_json(folder / ABOUT, contents.about)
            write_text(folder / README, _readme(bundle.manifest, contents.about, found.version))
            write_sums(folder)
            sync_tree(folder)
            _place(folder, target)
    except OSError as error:
        raise QuantizationError(f"{out} cannot be written ({error.strerror or error}): give another") from error
    return target


def _check_place(target: Path, out: str | os.PathLike[str], force: bool) -> None:
    """Errors (QuantizationError): something is there that must not be replaced."""
    if not target.exists():
        return
    if not target.is_dir():
        raise QuantizationError(f"the output {out} is a file: give a folder")
    inside = {path.name for path in target.iterdir()}
    if not inside:
        return
    others = sorted(inside - NAMES if {ABOUT, SUMS} <= inside else inside)
    if others:
        raise QuantizationError(
            f"the output folder {out} holds {shown(others[0])}, of no page, so it is not replaced: give another"
        )
    if not force:
        raise QuantizationError(f"the output folder {out} is not empty: give another, or force=True to replace it")


def _place(folder: Path, target: Path) -> None:
    if not target.exists() or not any(target.iterdir()):
        os.replace(folder, target)
    elif not exchange(folder, target):
        shutil.rmtree(target)
        os.replace(folder, target)


def _readme(manifest: Mapping[str, Any], about: Mapping[str, Any], version: str) -> str:
    """Markdown."""
    template = resources.files(__package__).joinpath("README.md.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: shown(value) if isinstance(value, str) else value,
    )
    return environment.from_string(template).render(manifest=manifest, about=about, version=version)
