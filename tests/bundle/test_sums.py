"""lsq_export/bundle/sums.py: SHA256SUMS, as others check it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from calib.errors import QuantizationError
from lsq_export.bundle.sums import changed_files, strange_files, update_sums, write_sums
from support.bundles import LAYOUT
from support.exported import Exported


def test_sums(exported: Exported) -> None:
    """One line `<digest>  <path>` for every other file, as `sha256sum -c` reads it."""
    directory = exported.bundle.directory
    lines = (directory / "SHA256SUMS").read_text().splitlines()
    assert {line[66:] for line in lines} == LAYOUT - {"SHA256SUMS"} and lines == sorted(
        lines, key=lambda line: line[66:]
    )
    for line in lines:
        assert line == f"{hashlib.sha256((directory / line[66:]).read_bytes()).hexdigest()}  {line[66:]}"
    if program := shutil.which("sha256sum"):
        done = subprocess.run(
            [program, "--check", "--strict", "SHA256SUMS"], cwd=directory, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and done.stdout.count(": OK") == len(lines), done.stderr


def test_nothing_has_changed_in_an_untouched_bundle(exported: Exported) -> None:
    assert changed_files(exported.bundle) == []


def test_changed_missing_and_unlisted_files_are_named(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    (bundle.directory / "report.html").write_text("scribbled over")
    (bundle.directory / "reference" / "folded.onnx").unlink()
    assert changed_files(bundle) == ["reference/folded.onnx", "report.html"]
    sums = bundle.directory / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.read_text().splitlines(True) if "qdq/model.onnx" not in line))
    assert changed_files(bundle) == ["qdq/model.onnx", "reference/folded.onnx", "report.html"]


SAMPLE = [f"sample/{name}.npy" for name in ("input", "prepared", "output")]


@pytest.mark.parametrize("name", ["README.md", "run.py", *SAMPLE])
def test_what_receivers_read_and_run_is_held_to_its_sum(name: str, exported: Exported, tmp_path: Path) -> None:
    """Changed, and taken out of the sums; a bundle of an older version, which has no such files, is not blamed."""
    bundle = exported.copy(tmp_path)
    with (bundle.directory / name).open("ab") as file:
        file.write(b" ")
    assert changed_files(bundle) == [name]
    sums = bundle.directory / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.read_text().splitlines(True) if not line.endswith(f"  {name}\n")))
    assert changed_files(bundle) == [name]
    (bundle.directory / name).unlink()
    bundle.manifest.pop("sample")
    assert changed_files(bundle) == []


@pytest.mark.parametrize(
    "name", ["parity.json", "report.html", "qdq/test_data_set_0/output_0.pb", "lookup/kernels/api.h"]
)
def test_a_file_that_no_sum_lists_any_more_is_named(name: str, exported: Exported, tmp_path: Path) -> None:
    """Whoever changes a file may take its line away."""
    bundle = exported.copy(tmp_path)
    path = bundle.directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"changed")
    sums = bundle.directory / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.read_text().splitlines(True) if not line.endswith(f"  {name}\n")))
    assert changed_files(bundle) == [name] and strange_files(bundle) == []


def test_what_lies_beside_the_files_of_a_bundle_is_strange(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    for name in ("extra.txt", "lookup/kernels/evil.c", "__pycache__/run.cpython-311.pyc", "bench.json"):
        (bundle.directory / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle.directory / name).write_text("mine")
    (bundle.directory / "empty").mkdir()
    assert strange_files(bundle) == ["empty", "extra.txt", "lookup/kernels/evil.c"] and changed_files(bundle) == []
    assert strange_files(exported.bundle) == []


def test_new_sums_of_some_files_leave_the_others(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    for name in ("report.html", "manifest.json"):
        (bundle.directory / name).write_text("scribbled over")
    update_sums(bundle.directory, "report.html")
    assert changed_files(bundle) == ["manifest.json"]
    write_sums(bundle.directory)
    assert changed_files(bundle) == []


@pytest.mark.parametrize("content", [None, "junk\n"])
def test_sums_that_cannot_be_read_are_named(content: str | None, exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    (bundle.directory / "SHA256SUMS").unlink()
    if content is not None:
        (bundle.directory / "SHA256SUMS").write_text(content)
    with pytest.raises(QuantizationError, match="has no readable SHA256SUMS; export it again"):
        changed_files(bundle)
