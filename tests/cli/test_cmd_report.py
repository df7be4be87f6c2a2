"""`lsq-export report`: writes the page, and names what it needs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

import lsq_export
from support.commands import invoke
from support.exported import Exported

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
    [(None, "no readable parity.json"), ("junk", "no readable parity.json"), ("{}", "lacks what the report shows")],
)
def test_a_bundle_without_parity_is_named(damage: str | None, says: str, exported: Exported, tmp_path: Path) -> None:
    path = exported.copy(tmp_path).directory / "parity.json"
    path.unlink() if damage is None else path.write_text(damage)
    result = report(tmp_path / "bundle")
    assert result.exit_code == 2 and says in result.stderr and result.stderr.count("\n") == 1 and result.stdout == ""


def test_a_bundle_without_sums_is_named(exported: Exported, tmp_path: Path) -> None:
    (exported.copy(tmp_path).directory / "SHA256SUMS").unlink()
    result = report(tmp_path / "bundle")
    assert result.exit_code == 2 and "no readable SHA256SUMS" in result.stderr and result.stderr.count("\n") == 1


def test_a_place_that_cannot_be_written_is_named(exported: Exported, tmp_path: Path) -> None:
    for bundle, out, says in (
        (exported.bundle.directory, tmp_path / "no" / "page.html", "cannot be written"),
        (tmp_path, None, "manifest.json"),
    ):
        result = report(bundle, *(["--out", out] if out else []))
        assert result.exit_code == 2 and says in result.stderr and result.stderr.count("\n") == 1
