"""lsq_export/report/recording.py: what verification found lies in the bundle, with its sums."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lsq_export
from lsq_export.bundle.sums import changed_files
from lsq_export.report import render
from lsq_export.report.recording import bench_of, record, record_better, write_parity
from support.exported import Exported, content
from support.parities import format_parity, parity_of

PARITY = parity_of(format_parity(accumulator_mismatch=3), format_parity("qdq"))
GOOD = parity_of(format_parity(), format_parity("qdq"))
BENCH = {
    "rows": [
        {"name": name, "median_ms": 1.25, "low_quartile_ms": 1.0, "high_quartile_ms": 1.5, "runs": 7, "file_bytes": 9}
        for name in ("float", "qdq", "qoperator")
    ],
    "batch": 1,
    "threads": 2,
    "onnxruntime": "1.27.0",
}


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


@pytest.mark.parametrize(
    ("old", "new", "kept", "says"),
    [
        ({"split": "calibration"}, {"split": "test"}, False, None),  # seen by the fold, or not
        ({"split": "calibration", "images": 24}, {"split": "test", "images": 10}, False, "24 calibration images"),
        ({}, {"split": "test"}, False, None),  # of an older version
        ({"split": "test"}, {"split": "test"}, False, None),
        ({"split": "test", "images": 9}, {"split": "test", "images": 8}, True, "on 9 test images; --record puts"),
        ({"split": "test", "data": "own"}, {"split": "test", "data": "b", "images": 99}, True, "4 test images of own"),
        ({"split": "test", "data": "b"}, {"split": "test", "data": "own", "images": 2}, False, "of b: this one"),
        ({"split": "test", "data": "b"}, {"split": "test", "data": "c"}, False, "on 4 test images of b"),
    ],
)
def test_a_better_record_is_kept(
    old: dict[str, Any], new: dict[str, Any], kept: bool, says: str | None, exported: Exported, tmp_path: Path
) -> None:
    bundle = exported.copy(tmp_path)
    bundle = replace(bundle, manifest={**bundle.manifest, "source": {"data": "own"} if "data" in old else None})
    before, now = replace(GOOD, **old), replace(GOOD, **new)
    record(bundle, before)
    line = record_better(bundle, now)
    assert (line is None) if says is None else (line is not None and says in line)
    written = json.loads((bundle.directory / "parity.json").read_text())
    assert written == json.loads(json.dumps((before if kept else now).to_dict()))
    assert (bundle.directory / "report.html").read_text() == render(bundle.manifest, written)
    record_better(bundle, now, force=True)
    assert json.loads((bundle.directory / "parity.json").read_text()) == json.loads(json.dumps(now.to_dict()))
    assert changed_files(bundle) == []


def test_a_broken_promise_is_always_recorded(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    record(bundle, replace(GOOD, split="test", images=999))
    line = record_better(bundle, replace(PARITY, split="test"))
    assert line is not None and "held the verification on 999 test images: this one replaced it" in line
    assert json.loads((bundle.directory / "parity.json").read_text())["ok"] is False


@pytest.mark.parametrize("junk", ["", "[]", "{"])
def test_no_record_is_no_better_one(junk: str, exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    (bundle.directory / "parity.json").write_text(junk)
    assert record_better(bundle, GOOD) is None and changed_files(bundle) == []


def test_paths_of_data_are_compared_and_not_their_spelling(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = replace(exported.copy(tmp_path), manifest={**exported.bundle.manifest, "source": {"data": "npz:d.npz"}})
    record(bundle, replace(GOOD, split="test", data="npz:other.npz", images=99))
    record_better(bundle, replace(GOOD, split="test", data=f"npz:{tmp_path / 'd.npz'}"))
    assert json.loads((bundle.directory / "parity.json").read_text())["images"] == 4


def test_latencies_stay_in_the_bundle(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    assert bench_of(bundle) is None
    record(bundle, GOOD, BENCH)
    assert bench_of(bundle) == BENCH and changed_files(bundle) == []
    record(bundle, GOOD)
    page = (bundle.directory / "report.html").read_text()
    assert "1.25 ms" in page and page == render(bundle.manifest, GOOD.to_dict(), BENCH)


def test_verify_records_where_it_is_asked_to(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    before = content(bundle.directory)
    lsq_export.verify(None, bundle, exported.batches)
    assert content(bundle.directory) == before
    parity = lsq_export.verify(None, bundle, exported.batches, record=True)
    assert json.loads((bundle.directory / "parity.json").read_text())["images"] == parity.images
    assert changed_files(bundle) == []
