"""`lsq-export report`: writes the page, and names what it needs."""

from __future__ import annotations

import errno
from functools import partial
from pathlib import Path

import pytest

import lsq_export
from lsq_export.bundle.sums import write_sums
from support.commands import invoke
from support.exported import Exported, content
from support.moments import full_disk

report = partial(invoke, "report")


def test_command(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    page = bundle.directory / "report.html"
    before = page.read_bytes()
    page.write_text("scribbled over")
    result = report(bundle.directory)
    assert result.exit_code == 0 and result.stdout == f"wrote {page}\n" and page.read_bytes() == before
    assert lsq_export.verify(None, bundle, exported.batches).damaged == ()
    out = tmp_path / "page.html"
    assert report(bundle.directory, "--out", out).exit_code == 0 and out.read_bytes() == before
    refused = report(bundle.directory, "--out", out)
    assert refused.exit_code == 2 and "--force to overwrite it" in refused.stderr and refused.stderr.count("\n") == 1
    assert report(bundle.directory, "--out", out, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (None, "parity.json is missing"),
        ("junk", "parity.json is not what was exported"),
        ("{} with its sum", "parity.json is damaged: it has no ok"),
    ],
)
def test_a_bundle_without_parity_is_named(damage: str | None, says: str, exported: Exported, tmp_path: Path) -> None:
    path = exported.copy(tmp_path).directory / "parity.json"
    path.unlink() if damage is None else path.write_text(damage[:2])
    if damage == "{} with its sum":
        write_sums(tmp_path / "bundle")
    result = report(tmp_path / "bundle")
    assert result.exit_code == 1 and says in result.stderr and result.stderr.count("\n") == 1 and result.stdout == ""


def test_a_bundle_without_sums_is_named(exported: Exported, tmp_path: Path) -> None:
    (exported.copy(tmp_path).directory / "SHA256SUMS").unlink()
    result = report(tmp_path / "bundle")
    assert result.exit_code == 1 and "no readable SHA256SUMS" in result.stderr and result.stderr.count("\n") == 1


def test_a_place_that_cannot_be_written_is_named(exported: Exported, tmp_path: Path) -> None:
    for bundle, out, says in (
        (exported.bundle.directory, tmp_path / "no" / "page.html", "cannot be written"),
        (tmp_path, None, "manifest.json"),
    ):
        result = report(bundle, *(["--out", out] if out else []))
        assert result.exit_code == 2 and says in result.stderr and result.stderr.count("\n") == 1


def test_only_an_earlier_page_is_replaced(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    before = content(tmp_path)
    (tmp_path / "link.html").symlink_to("real.html")
    assert report(bundle.directory, "--out", tmp_path / "link.html").exit_code == 0
    assert (tmp_path / "link.html").is_symlink() and (tmp_path / "real.html").read_bytes() == before[
        "bundle/report.html"
    ]
    for out in (
        bundle.directory / "manifest.json",
        bundle.directory / "qdq" / "model.onnx",
        bundle.directory / "run.py",
    ):
        result = report(bundle.directory, "--out", out, "--force")
        assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    assert content(bundle.directory) == {name.partition("/")[2]: data for name, data in before.items()}


def test_a_bundle_that_cannot_be_written_is_one_line(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    with full_disk(1, errno.EROFS):
        result = report(bundle.directory)
    assert result.exit_code == 2 and "Read-only file system" in result.stderr and result.stderr.count("\n") == 1
