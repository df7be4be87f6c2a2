"""lsq_export/bundle/records.py: a kill or a full disk between two writes makes no bundle look damaged."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lsq_export
from calib.errors import DamagedError, QuantizationError
from lsq_export.bundle.layout import ADDED
from lsq_export.bundle.records import RECORDS, check_output, unsettled, write_output, write_records
from lsq_export.bundle.sums import changed_files, read_sums, update_sums
from lsq_export.files.text import write_text
from lsq_export.report import recording
from lsq_export.report.recording import record, settle_records
from support.exported import Exported, content
from support.moments import files_of_at_most, full_disk, moments
from support.parities import format_parity, parity_of

OLD = replace(parity_of(format_parity(), format_parity("qdq")), split="test", images=7)
NEW = replace(OLD, images=9)
ROW = {"name": "float", "median_ms": 1.25, "low_quartile_ms": 1.0, "high_quartile_ms": 1.5, "runs": 7, "file_bytes": 9}
BENCH = {"rows": [ROW], "batch": 1, "threads": 2, "onnxruntime": "1.27.0"}
LEFT = (".*.tmp", ".*.old", "*/.*.tmp")


def left(directory: Path) -> list[Path]:
    """Temporaries of ours."""
    return [path for pattern in LEFT for path in directory.glob(pattern)]


def page(manifest: object, parity: dict[str, Any], bench: object = None, **added: object) -> str:
    """A report that is quick to make."""
    return f"<p>{parity['images']} {bench}</p>"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "render", page)


@pytest.fixture
def bundle(exported: Exported, tmp_path: Path) -> lsq_export.Bundle:
    bundle = exported.copy(tmp_path)
    record(bundle, OLD)
    return bundle


@pytest.mark.usefixtures("quick")
def test_a_kill_at_any_moment_leaves_a_sound_bundle(bundle: lsq_export.Bundle, tmp_path: Path) -> None:
    """Its parity is the old one or the new one; what comes next finds nothing wrong and leaves nothing behind."""
    record(bundle, OLD)
    found = moments(bundle.directory, tmp_path / "at", lambda: record(bundle, NEW, BENCH))
    images, waiting = set(), 0
    assert len(found) > 15
    for at in found:
        there = lsq_export.open_bundle(at)
        assert changed_files(there) == [], at.name
        images.add(json.loads((at / "parity.json").read_text())["images"])
        waiting += unsettled(at)
        settle_records(there)
        parity = json.loads((at / "parity.json").read_text())
        assert changed_files(there) == [] and not unsettled(at) and left(at) == [], at.name
        rows = json.loads((at / "bench.json").read_text()) if (at / "bench.json").exists() else None
        assert (at / "report.html").read_text() in (
            page(there.manifest, parity, rows),
            page(there.manifest, parity),  # the latencies came, and the process went
        )
        record(there, NEW, BENCH)
        assert content(at) == content(bundle.directory), at.name
    assert images == {7, 9} and waiting > 5


def test_sums_written_after_the_files_would_raise_alarms(bundle: lsq_export.Bundle, tmp_path: Path) -> None:
    """The test above can fail."""

    def in_the_order_of_before() -> None:
        write_text(bundle.directory / "parity.json", "{}")
        update_sums(bundle.directory, "parity.json")

    found = moments(bundle.directory, tmp_path / "at", in_the_order_of_before)
    assert any(changed_files(lsq_export.open_bundle(at)) == ["parity.json"] for at in found)


@pytest.mark.usefixtures("quick")
def test_a_full_disk_at_any_moment_leaves_a_sound_bundle(exported: Exported, tmp_path: Path) -> None:
    calls = 0
    for call in range(1, 100):
        (tmp_path / str(call)).mkdir()
        bundle = exported.copy(tmp_path / str(call))
        try:
            with full_disk(call):
                record(bundle, NEW, BENCH)
        except QuantizationError as error:
            assert "No space left on device" in str(error) and isinstance(error.__cause__, OSError)
        else:
            calls = call
            break
        assert changed_files(bundle) == [] and left(bundle.directory) == [], call
        assert json.loads((bundle.directory / "parity.json").read_text())
        record(bundle, NEW, BENCH)
        assert changed_files(bundle) == [] and not unsettled(bundle.directory)
    assert calls > 15


@pytest.mark.parametrize("size", [0, 100, 2000, 8000])
def test_a_file_cut_in_the_middle_is_not_there(size: int, bundle: lsq_export.Bundle) -> None:
    before = content(bundle.directory)
    with files_of_at_most(size), pytest.raises(QuantizationError, match="cannot be written: File too large"):
        record(bundle, NEW)
    assert changed_files(bundle) == [] and left(bundle.directory) == []
    after = content(bundle.directory)
    assert {name for name in after if after[name] != before[name]} <= {"SHA256SUMS", "parity.json"}


def test_damage_is_not_blessed(bundle: lsq_export.Bundle) -> None:
    """Not elsewhere, and not in a record that another process was killed at."""
    (bundle.directory / "manifest.json").write_bytes(b"scribbled over")
    with full_disk(8), pytest.raises(QuantizationError):
        record(bundle, NEW)
    assert unsettled(bundle.directory)
    (bundle.directory / "report.html").write_text("scribbled over")
    assert changed_files(bundle) == ["manifest.json", "report.html"]
    write_records(bundle.directory, {"bench.json": "{}"})
    assert changed_files(bundle) == ["manifest.json", "report.html"]


def test_only_records_may_have_two_sums(bundle: lsq_export.Bundle) -> None:
    with (bundle.directory / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  manifest.json\n")
    with pytest.raises(QuantizationError, match="no readable SHA256SUMS"):
        read_sums(bundle.directory)


def test_a_foreign_bundle_cannot_make_us_write_elsewhere(bundle: lsq_export.Bundle, tmp_path: Path) -> None:
    """Records that are links become files, and what they pointed to stays. Sums that are a link are none."""
    for name in RECORDS:
        (tmp_path / name).write_text("of somebody else")
        (bundle.directory / name).unlink(missing_ok=True)
        (bundle.directory / name).symlink_to(tmp_path / name)
    record(bundle, NEW, BENCH)
    write_records(bundle.directory, dict.fromkeys(ADDED, "{}"))
    assert all((tmp_path / name).read_text() == "of somebody else" for name in RECORDS)
    assert not any((bundle.directory / name).is_symlink() for name in RECORDS)
    sums = (bundle.directory / "SHA256SUMS").read_text()
    (tmp_path / "SHA256SUMS").write_text(sums)
    (bundle.directory / "SHA256SUMS").unlink()
    (bundle.directory / "SHA256SUMS").symlink_to(tmp_path / "SHA256SUMS")
    with pytest.raises(DamagedError, match="has no readable SHA256SUMS"):
        record(bundle, NEW, BENCH)
    assert (tmp_path / "SHA256SUMS").read_text() == sums


def test_the_sums_stay_those_that_sha256sum_checks(bundle: lsq_export.Bundle) -> None:
    record(bundle, NEW, BENCH)
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=bundle.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "bench.json: OK" in done.stdout, done.stderr


def test_a_file_that_a_user_names_in_a_bundle(bundle: lsq_export.Bundle, tmp_path: Path) -> None:
    """A record gets its sum, other files of the bundle are refused, and elsewhere nothing is special."""
    record(bundle, NEW, BENCH)
    write_output(bundle.directory / "bench.json", "{}")
    assert changed_files(bundle) == [] and (bundle.directory / "bench.json").read_text() == "{}"
    (tmp_path / "link.json").symlink_to(bundle.directory / "manifest.json")
    for path in (bundle.directory / "qdq" / "model.onnx", tmp_path / "link.json", bundle.directory / "SHA256SUMS"):
        with pytest.raises(QuantizationError, match="is a file of the bundle"):
            check_output(path)
    write_output(bundle.directory / "notes.json", "[]")
    write_output(tmp_path / "new.json", "[]")
    assert changed_files(bundle) == [] and (tmp_path / "new.json").read_text() == "[]"


def test_a_disk_that_is_read_only_is_an_os_error(bundle: lsq_export.Bundle) -> None:
    before = content(bundle.directory)
    with full_disk(1, errno.EROFS), pytest.raises(QuantizationError, match="Read-only file system") as caught:
        record(bundle, NEW)
    assert isinstance(caught.value.__cause__, OSError) and content(bundle.directory) == before
    assert os.listdir(bundle.directory)
