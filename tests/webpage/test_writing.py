"""A page's folder: what is in it, without a browser. onnxruntime-web is two files that say so."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

import lsq_export
from calib.errors import DamagedError, QuantizationError
from lsq_export.bundle.golden import read_golden
from lsq_export.bundle.reading import Files
from lsq_export.data.sample import Sample
from lsq_export.replaying.integers import scale_of_output
from lsq_export.webpage import web_runtime
from lsq_export.webpage.writing import NAMES, write_page
from support.bundles import export
from support.commands import invoke
from support.exported import Exported, prepared
from support.web_package import package


def page(bundle: lsq_export.Bundle, folder: Path, **options: object) -> tuple[Path, dict[str, object]]:
    out = write_page(bundle, folder / "page", runtime=package(folder), **options)  # type: ignore[arg-type]
    return out, json.loads((out / "network.json").read_text(encoding="utf-8"))


def array(out: Path, entry: dict[str, object]) -> np.ndarray:
    start, size = int(str(entry["offset"])), int(str(entry["bytes"]))
    content = (out / "golden.bin").read_bytes()[start : start + size]
    return np.frombuffer(content, str(entry["type"])).reshape(entry["shape"])  # type: ignore[arg-type]


def test_all_that_a_page_needs_is_in_its_folder(exported: Exported, tmp_path: Path) -> None:
    out, _ = page(exported.bundle, tmp_path)
    files = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {*files} == NAMES - {"sample.png"}
    sums = dict(reversed(line.split("  ")) for line in files["SHA256SUMS"].decode().splitlines())
    assert sums == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != "SHA256SUMS"
    }
    assert files["model.onnx"] == exported.bundle.models["qoperator"].read_bytes()
    assert files["ort.wasm"] == web_runtime.MODULE.encode() and "9.8.7" in files["README.md"].decode()
    for name in ("index.html", "page.css", "page.js", "network.js", "picture.js"):
        text = files[name].decode()
        assert not re.search(r"https?://|//[a-z]+\.", text.replace("http.server", "")), f"{name} loads from elsewhere"
        loaded = re.findall(r"""(?:from|src=|href=|fetch\(|bytesOf\()\s*"(?:\./)?([\w.]+)\"""", text)
        assert {*loaded} <= {*files}, name


def test_the_golden_vectors_and_their_scales(exported: Exported, tmp_path: Path) -> None:
    out, about = page(exported.bundle, tmp_path)
    x, outputs = read_golden(Files(exported.bundle.directory), "qoperator")
    golden = about["golden"]
    assert isinstance(golden, dict)
    assert np.array_equal(array(out, golden["inputs"][0]), x)  # type: ignore[arg-type]
    (entry,) = golden["outputs"]
    assert np.array_equal(array(out, entry), outputs["output"])
    scale = scale_of_output(exported.file("qoperator"), "output")
    assert scale is not None and entry["scale"]["values"] == scale.values.reshape(-1).tolist()


def test_another_format(exported: Exported, tmp_path: Path) -> None:
    out, _ = page(exported.bundle, tmp_path, format="qdq")
    assert (out / "model.onnx").read_bytes() == exported.bundle.models["qdq"].read_bytes()


@pytest.mark.parametrize("light", [True, False])
def test_a_sample_of_pixels_is_an_image(tmp_path: Path, light: bool) -> None:
    pixels = np.full((16, 16), 10 if light else 240, np.uint8)
    pixels[4:12, 6:10] = 250 if light else 3
    x = (pixels[None] / np.float32(255)).astype(np.float32)
    known = {"preprocessing": {"divide_by": 255}, "sample": Sample(pixels, x, 1), "classes": list("abcde")}
    bundle = export(prepared(seed=0), tmp_path / "out", **known)
    out, about = page(bundle, tmp_path)
    assert about["sample"] == {"file": "sample.png"} and about["light"] is light and about["label"] == 1
    assert about["source"] == {"channels": 1, "range": None} and about["why"] is None
    assert (out / "sample.png").read_bytes() == (bundle.directory / "sample/input.png").read_bytes()


def test_without_preprocessing_no_picture_can_be_run_and_it_says_why(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    manifest = {**bundle.manifest, "preprocessing": None}
    _, about = page(lsq_export.Bundle(bundle.directory, bundle.models, manifest), tmp_path)
    assert "was not said at export" in str(about["why"]) and about["source"] is None


def test_nothing_of_anybody_else_is_replaced(exported: Exported, tmp_path: Path) -> None:
    out, _ = page(exported.bundle, tmp_path)
    npm = tmp_path / "npm"
    with pytest.raises(QuantizationError, match="is not empty: give another, or force=True"):
        write_page(exported.bundle, out, runtime=npm)
    (out / "page.css").write_text("another")
    write_page(exported.bundle, out, runtime=npm, force=True)
    assert (out / "page.css").read_text() != "another"
    (out / "mine.txt").write_text("mine")
    with pytest.raises(QuantizationError, match=r"mine\.txt, of no page"):
        write_page(exported.bundle, out, runtime=npm, force=True)
    for name in ("notes.txt", "README.md"):  # a README alone is no page
        other = tmp_path / name.partition(".")[0]
        other.mkdir()
        (other / name).write_text("mine")
        with pytest.raises(QuantizationError, match="of no page"):
            write_page(exported.bundle, other, runtime=npm, force=True)
    with pytest.raises(QuantizationError, match="is a file: give a folder"):
        write_page(exported.bundle, other / name, runtime=npm)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_changed_file_of_the_bundle_is_named(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    path = bundle.directory / "qoperator/test_data_set_0/output_0.pb"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DamagedError, match=r"output_0\.pb is not what was exported"):
        page(bundle, tmp_path)
    assert not (tmp_path / "page").exists()


def test_the_command(exported: Exported, tmp_path: Path) -> None:
    options = ("--out", tmp_path / "page", "--onnxruntime-web", package(tmp_path))
    done = invoke("page", exported.bundle.directory, *options)
    assert done.exit_code == 0 and f"python -m http.server -d {tmp_path / 'page'}" in done.output, done.output
    done = invoke("page", exported.bundle.directory, *options)
    assert done.exit_code == 2 and "or --force to replace it" in done.output
    done = invoke("page", exported.bundle.directory, "--format", "lookup", *options, "--force")
    assert done.exit_code == 2 and "has no format 'lookup'" in done.output
