"""docs/speed_table.py: the tables of the page on speed, from a record."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lsq_export.bench.journal import Journal
from lsq_export.bench.measurement import Measurement, intervals_of, speedups_of
from support.benches import bench_of

PAGE = Path(__file__).parents[2] / "docs" / "speed_table.py"
TIMES = {
    "float": 12.0,
    "qoperator": 9.0,
    "lookup": 4.0,
    "lookup, stock": 8.0,
    "quantize_static qdq": 10.0,
    "quantize_static qoperator": 11.0,
    "openvino float": 6.0,
    "openvino float f32": 14.0,
}
SETTINGS = {"network": "resnet18", "size": 224, "offset": "real", "code": "c", "openvino": "2030.1", "runs": 50}


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, with a page of its own."""
    spec = importlib.util.spec_from_file_location("speed_table", PAGE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    original = module.PAGE.read_text(encoding="utf-8")
    assert original.count(module.BEGIN) == original.count(module.END) == 1
    page = tmp_path / "speed.md"
    page.write_text(f"# Speed\n\n{module.BEGIN}\n\nold\n\n{module.END}\n\nrest\n", encoding="utf-8")
    monkeypatch.setattr(module, "PAGE", page)
    return module


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., None]:
    """Append a measurement to the record; keywords change its settings."""

    def append(factor: float = 1.0, busy: str | None = None, batch: int = 1, **settings: Any) -> None:
        times = TIMES | {"lookup": TIMES["lookup"] * factor}
        timing = bench_of({name: ms * batch for name, ms in times.items()}, [1.0], busy)
        values = {
            "network": "resnet18 W4A4",
            "speedups": speedups_of(timing),
            "intervals": intervals_of(timing),
            **timing.to_dict(),
            "batch": batch,
            "float_origin": None,
            "notes": [],
            "operators": {},
            "peak_bytes": {},
            "int8_peak": None,
            "operations": None,
            "machine": "a CPU",
            "lsq_export": "1",
            "instruction_set": "AVX9",
        }
        Journal(tmp_path / "b.jsonl").append(
            {**SETTINGS, **settings}, Measurement.from_dict(json.loads(json.dumps(values)))
        )

    return append


def test_tables_take_the_place_of_the_old_ones(script: ModuleType, add: Callable[..., None], tmp_path: Path) -> None:
    for factor in (1.0, 2.0, 1.5):
        add(factor, code="other")  # not of the code of the last line
    for factor in (1.0, 2.0, 1.5):
        add(factor)
    add(4.0, busy="load 9")
    add(2.0, offset="container", network="mixnet_s")
    add(1.0, batch=8, network="efficientnet_b0")
    script.main(tmp_path / "b.jsonl")
    text = script.PAGE.read_text(encoding="utf-8")
    assert text.startswith("# Speed\n\n<!-- ") and text.endswith("\n\nrest\n") and "old" not in text
    lines = text.splitlines()
    assert any(line.startswith("W4A4, 224×224, a CPU, AVX9, ONNX Runtime 1.32, OpenVINO 2030.1 (2") for line in lines)
    faster = "2.00 (3.00, 1.50, 2.00) | 1.67 (2.50, 1.25, 1.67) | 1.00 (1.50, 0.75, 1.00) | 1.50 (2.25, 1.12, 1.50)"
    assert f"| ResNet-18 | real | {faster} | 1.12 (1.12, 1.12, 1.12) |" in lines
    assert any(line.startswith("| MixNet-S | container | 1.50 (1.50) |") for line in lines)
    assert "| ResNet-18 | 1 | 2 | 6.0 (167) | 12.0 (83) | 10.0 (100) | 6.0 (167) | 14.0 (71) | – | – |" in lines
    assert any(line.startswith("| EfficientNet-B0 | 8 | 2 | 32.0 (250) | 96.0 (83) |") for line in lines)
    assert "1 of 6 runs are left out: the machine was too busy to tell." in lines


def test_a_record_that_says_nothing_changes_nothing(
    script: ModuleType, add: Callable[..., None], tmp_path: Path
) -> None:
    before = script.PAGE.read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match="has no measurements: make bench-record"):
        script.main(tmp_path / "b.jsonl")
    add(busy="load 9")
    with pytest.raises(SystemExit, match=r"in all 1 runs of .*b.jsonl the machine was too busy to tell"):
        script.main(tmp_path / "b.jsonl")
    assert script.PAGE.read_text(encoding="utf-8") == before
