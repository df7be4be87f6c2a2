"""Where onnxruntime-web comes from; nothing is fetched here."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from calib.errors import QuantizationError
from lsq_export.webpage import web_runtime as module
from lsq_export.webpage.web_runtime import MODULE, SCRIPT, VERSION, cache, web_runtime

CONTENT = {SCRIPT: b"script", MODULE: b"module"}


@pytest.fixture(autouse=True)
def _made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another cache, and digests of made-up files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NODE_PATH", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(module, "DIGESTS", {name: hashlib.sha256(text).hexdigest() for name, text in CONTENT.items()})


def package(folder: Path, content: dict[str, bytes] = CONTENT) -> Path:
    (folder / "dist").mkdir(parents=True)
    for name, text in content.items():
        (folder / "dist" / name).write_bytes(text)
    return folder


def nothing(folder: Path) -> Path:
    raise AssertionError("it is fetched again")


def test_it_is_fetched_once_and_kept(tmp_path: Path) -> None:
    found = web_runtime(fetch=lambda folder: package(folder / "package"))
    assert found.version == VERSION and {name: path.read_bytes() for name, path in found.files.items()} == CONTENT
    assert all(path.parent == cache() for path in found.files.values())
    assert web_runtime(fetch=nothing) == found
    (cache() / SCRIPT).write_bytes(b"damaged")
    assert web_runtime(fetch=lambda folder: package(folder / "package")).files[SCRIPT].read_bytes() == b"script"


def test_that_of_node_modules_is_taken_if_it_is_this_version(tmp_path: Path) -> None:
    place = package(Path("node_modules/onnxruntime-web"))
    assert web_runtime(fetch=nothing).files[SCRIPT] == place.absolute() / "dist" / SCRIPT
    (place / "dist" / MODULE).write_bytes(b"another version")
    assert web_runtime(fetch=lambda folder: package(folder / "package")).files[SCRIPT].parent == cache()


def test_other_files_than_were_published_are_refused() -> None:
    other = {**CONTENT, MODULE: b"something else"}
    with pytest.raises(QuantizationError, match=f"another {MODULE} than was published"):
        web_runtime(fetch=lambda folder: package(folder / "package", other))
    assert not cache().exists()


@pytest.mark.parametrize(("code", "said"), [(1, "cannot fetch it (no network)"), (None, "there is no npm to fetch it")])
def test_what_npm_cannot_do_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int | None, said: str
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    if code is not None:
        (programs / "npm").write_text("#!/bin/sh\necho 'no network' >&2\nexit 1\n")
        (programs / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/bin" if code is not None else str(programs))
    with pytest.raises(QuantizationError) as error:
        web_runtime()
    assert said in str(error.value) and "--onnxruntime-web" in str(error.value) and "\n" not in str(error.value)


def packed(path: Path, members: dict[str, bytes | None]) -> bytes:
    """A tarball as npm packs it; None: a folder of that name."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size, entry.type = len(content or b""), tarfile.REGTYPE if content is not None else tarfile.DIRTYPE
            tar.addfile(entry, io.BytesIO(content or b""))
    return path.read_bytes()


NOISE = np.random.default_rng(0).bytes(50_000)  # which gzip does not make smaller
TARBALLS: dict[str, tuple[dict[str, bytes | None], Callable[[bytes], bytes | None], str]] = {
    "one file is missing": ({SCRIPT: b"script"}, lambda whole: whole, f"has no file dist/{MODULE}"),
    "a folder in its place": ({SCRIPT: None, MODULE: b"module"}, lambda whole: whole, f"has no file dist/{SCRIPT}"),
    "nothing in it": ({}, lambda whole: whole, f"has no file dist/{SCRIPT}"),
    "half a download": ({SCRIPT: NOISE, MODULE: NOISE}, lambda whole: whole[: len(whole) // 2], "cannot be unpacked"),
    "the last bytes lack": ({MODULE: b"module", SCRIPT: NOISE}, lambda whole: whole[:-20_000], "cannot be unpacked"),
    "a byte of it flipped": (
        {SCRIPT: NOISE, MODULE: NOISE},
        lambda whole: whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:],
        "cannot be unpacked|another .* than was published",
    ),
    "no archive": ({}, lambda whole: b"<html>not found</html>", "cannot be unpacked"),
    "an empty file": ({}, lambda whole: b"", "cannot be unpacked"),
    "no file": ({}, lambda whole: None, "npm wrote no files"),
    "another content": ({SCRIPT: b"script", MODULE: b"other"}, lambda whole: whole, f"another {MODULE} than was"),
}


@pytest.mark.parametrize("name", TARBALLS)
def test_a_tarball_that_is_not_what_was_published_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    members, damage, said = TARBALLS[name]
    use_npm(monkeypatch, tmp_path, damage(packed(tmp_path / "whole.tgz", members)))
    with pytest.raises(QuantizationError, match=said) as error:
        web_runtime()
    assert "--onnxruntime-web" in str(error.value) and "\n" not in str(error.value)
    assert not cache().exists()


def test_a_tarball_that_is_right_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_npm(monkeypatch, tmp_path, packed(tmp_path / "whole.tgz", dict(CONTENT)))
    assert {name: path.read_bytes() for name, path in web_runtime(fetch=None).files.items()} == CONTENT


def test_an_npm_that_cannot_be_run_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "npm").write_bytes(b"\x7fELF no program")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(QuantizationError, match=r"npm cannot be run \(Exec format error\)"):
        web_runtime()


def use_npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tarball: bytes | None) -> None:
    """An npm that packs this tarball, or none."""
    programs = tmp_path / "programs"
    programs.mkdir()
    if tarball is not None:
        (programs / "packed").write_bytes(tarball)
    copied = f"cp {programs}/packed o-1.30.0.tgz" if tarball is not None else "true"
    (programs / "npm").write_text(f"#!/bin/sh\n{copied}\n")
    (programs / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/bin{os.pathsep}/usr/bin")


def test_a_folder_that_was_named(tmp_path: Path) -> None:
    place = package(tmp_path / "mine", {SCRIPT: b"of another version", MODULE: b"of another"})
    with pytest.raises(QuantizationError, match=r"no readable package\.json"):
        web_runtime(place)
    (place / "package.json").write_text('{"version": "2.0.0"}')
    assert web_runtime(place).version == "2.0.0"
    (place / "dist" / MODULE).unlink()
    with pytest.raises(QuantizationError, match=f"has no dist/{MODULE}"):
        web_runtime(place)
