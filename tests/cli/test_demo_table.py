"""lsq_export/cli/demo_table.py: every form of the network in one table."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lsq_export.bundle.directory import Bundle
from lsq_export.cli.demo_table import COLUMNS, Result, print_models, speed
from support.benches import bench_of
from support.parities import format_parity, parity_of


def standing_for(**values: Any) -> Any:
    """In place of a record, with what the table shows of it."""
    return SimpleNamespace(**values)


def test_every_form_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    times = {"float": 8.0, "qdq": 2.0, "qoperator": 4.0}
    result = Result(
        float_phase=standing_for(accuracy=0.98),
        bundle=Bundle(Path("out"), {}, {"formats": {"qdq": {"bytes": 2_000_000}, "qoperator": {"bytes": 1_000_000}}}),
        parity=parity_of(format_parity("qdq"), format_parity("qoperator", accuracy=0.97), trained_accuracy=0.975),
        bench=bench_of(times, [1.0] * 10),
    )
    print_models("Demo", result)
    title, header, *lines = capsys.readouterr().out.splitlines()
    assert title.rstrip() == "Demo" and all(column.lstrip(">") in header for column in COLUMNS)
    assert [line.split()[0] for line in lines if line.strip()] == [
        "float",
        "trained",
        "trained,",
        "folded",
        "ONNX",
        "ONNX",
    ]
    assert lines[0].split() == ["float", "98.00%", "8.00", "MB", "8.00", "ms", "1.00"]
    assert lines[4].split()[2] == "qdq" and lines[4].split()[-8:] == [
        "2.00",
        "MB",
        "2.00",
        "ms",
        "4.00",
        "(4.00",
        "…",
        "4.00)",
    ]
    assert "97.00%" in lines[5] and lines[5].split()[-4] == "2.00"
    assert speed(result) == "4.00 ms, 2.00 (2.00 … 2.00) × as fast as float"
