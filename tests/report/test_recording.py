"""lsq_export/report/recording.py: what verification found lies in the bundle, with its sums."""

from __future__ import annotations

import json
from pathlib import Path

from lsq_export.bundle.sums import changed_files
from lsq_export.report import render
from lsq_export.report.recording import record, write_parity
from support.exported import Exported, content
from support.parities import format_parity, parity_of

PARITY = parity_of(format_parity(accumulator_mismatch=3), format_parity("qdq"))


def test_a_record_is_json_a_page_and_their_sums(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    before = content(bundle.directory)
    record(bundle, PARITY)
    after = content(bundle.directory)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"parity.json", "report.html", "SHA256SUMS"} and after.keys() == before.keys()
    assert json.loads(after["parity.json"]) == json.loads(json.dumps(PARITY.to_dict()))
    assert after["report.html"].decode() == render(bundle.manifest, PARITY.to_dict())
    assert changed_files(bundle) == []


def test_a_record_does_not_bless_other_changes(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    (bundle.directory / "manifest.json").write_bytes(b"scribbled over")
    record(bundle, PARITY)
    assert changed_files(bundle) == ["manifest.json"]


def test_a_parity_is_written_without_sums(exported: Exported, tmp_path: Path) -> None:
    write_parity(tmp_path, exported.bundle.manifest, PARITY)
    assert set(content(tmp_path)) == {"parity.json", "report.html"}
