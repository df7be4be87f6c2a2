"""bench: the models take turns in blocks; bad input is named.

The times themselves are not judged: the machine may be busy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calib.errors import QuantizationError
from lsq_export.bench import BenchResult, RunOptions, collect, compare, sessions, timing
from lsq_export.bench.float_model import float_model_of
from support.commands import invoke
from support.exported import Exported


def model(shape: tuple[int | str, ...] = ("N", 4), element: int = TensorProto.FLOAT) -> bytes:
    """y = x, added to itself."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", element, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def fast(models: dict[str, Any], baseline: str | None = None, **options: Any) -> BenchResult:
    return compare(
        models, RunOptions(**{"runs": 7, "threads": 1, "warmup": 1, "pause": 0.0, **options}), baseline=baseline
    )


def test_rows() -> None:
    a, b = model(), model(("N", 9))
    result = fast({"a": a, "b": b}, batch=3)
    assert [r.name for r in result.rows] == ["a", "b"] and result.baseline == "a" and result.batch == 3
    assert [r.runs for r in result.rows] == [7, 7] and [r.file_bytes for r in result.rows] == [len(a), len(b)]
    for row in result.rows:
        assert 0 < row.low_quartile_ms <= row.median_ms <= row.high_quartile_ms
        assert row.speedup == result.rows[0].median_ms / row.median_ms
    assert json.loads(json.dumps(result.to_dict()))["rows"][1]["name"] == "b"


def test_baseline() -> None:
    result = fast({"a": model(), "b": model()}, baseline="b")
    assert result.rows[1].speedup == 1.0
    assert result.rows[0].speedup == result.rows[1].median_ms / result.rows[0].median_ms


def test_blocks_alternate_and_begin_with_pause_and_warmup(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[tuple[str, int]] = []

    def fake(name: str, session: object, feed: object, runs: int, warmup: int, pause: float) -> list[float]:
        assert (warmup, pause) == (2, 0.5)
        blocks.append((name, runs))
        return [float(len(blocks))] * runs

    monkeypatch.setattr(timing, "_block", fake)
    compare({"a": model(), "b": model()}, RunOptions(runs=12, warmup=2, pause=0.5))
    assert blocks == [(name, runs) for runs in (2, 2, *[1] * 8) for name in "ab"]


def test_a_block_pauses_and_counts_only_timed_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[object] = []

    class Session:
        def run(self, outputs: object, feed: object) -> None:
            log.append("run")

    monkeypatch.setattr(timing.time, "sleep", log.append)
    assert len(timing._block("a", Session(), {}, runs=3, warmup=2, pause=0.25)) == 3  # type: ignore[arg-type]
    assert log == [0.25, *["run"] * 5]


def test_inputs_are_the_same_for_every_model_and_cover_both_signs() -> None:
    session = sessions.open_session("a", model(("N", 50)), 1)
    one, two = (sessions.random_inputs("a", session, 4, 0)["x"] for _ in range(2))
    assert one.shape == (4, 50) and one.dtype == np.float32 and np.array_equal(one, two) and one.min() < 0 < one.max()


@pytest.mark.parametrize(
    ("models", "options", "says"),
    [
        ({}, {}, "no model to time"),
        ({"a": b"junk"}, {}, "model a: ONNX Runtime .* cannot load it"),
        ({"a": "none.onnx"}, {}, "model a: none.onnx does not exist"),
        ({"a": model()}, {"baseline": "b"}, "baseline 'b' is none of the models: use one of a"),
        ({"a": model()}, {"runs": 0}, "runs is 0"),
        ({"a": model((2, 4))}, {"batch": 1}, "batch size is fixed at 2, not 1"),
        ({"a": model(("N", "width"))}, {}, "input 'x' has the unknown size 'width'"),
        ({"a": model(element=TensorProto.INT64)}, {}, r"input 'x' is a tensor\(int64\)"),
    ],
)
def test_bad_input_is_named(models: dict[str, Any], options: dict[str, Any], says: str) -> None:
    with pytest.raises(QuantizationError, match=says):
        fast(models, **options)


@pytest.fixture
def bundle(exported: Exported) -> Path:
    return exported.bundle.directory


def test_collect(bundle: Path, tmp_path: Path) -> None:
    """Of a bundle: the float network, made from the trained one, first; of several paths: with the name of each."""
    models = collect([bundle])
    assert list(models) == ["float", "qdq", "qoperator"] and models["qdq"] == bundle / "qdq" / "model.onnx"
    assert models["float"] == float_model_of(bundle)
    file = bundle / "qdq" / "model.onnx"
    several = collect([bundle, file])
    assert several == {f"{bundle}/{name}": source for name, source in models.items()} | {str(file): file}
    (tmp_path / "empty").mkdir()
    with pytest.raises(QuantizationError, match="empty is no bundle"):
        collect([tmp_path / "empty"])


def test_a_directory_without_references_has_no_float_model(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "qdq").mkdir()
    (tmp_path / "qdq" / "model.onnx").write_bytes((bundle / "qdq" / "model.onnx").read_bytes())
    assert list(collect([tmp_path])) == ["qdq"]


def test_a_damaged_reference_is_named(exported: Exported, tmp_path: Path) -> None:
    directory = exported.copy(tmp_path).directory
    (directory / "reference" / "trained.onnx").write_bytes(b"junk")
    result = invoke("bench", str(directory))
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert "trained.onnx is not what was exported (SHA256SUMS)" in result.stderr


@pytest.mark.slow
def test_command(bundle: Path, tmp_path: Path) -> None:
    options = ["--runs", "3", "--pause", "0", "--threads", "1"]
    result = invoke("bench", str(bundle), *options, "--json", str(tmp_path / "b.json"))
    assert result.exit_code == 0, result.output
    for words in ("float", "qoperator", "baseline / it", "QLinearConv", "peak memory", "int8 peak"):
        assert words in result.stdout
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert [r["name"] for r in rows] == ["float", "qdq", "qoperator"]
    assert rows[0]["file_bytes"] > rows[2]["file_bytes"] == (bundle / "qoperator" / "model.onnx").stat().st_size
    only = invoke("bench", str(bundle), *options, "--json", "-")
    assert json.loads(only.stdout)["baseline"] == "float"
    nowhere = invoke("bench", str(bundle), *options, "--json", str(tmp_path / "no" / "b.json"))
    assert nowhere.exit_code == 2 and "cannot be written" in nowhere.stderr


def test_8_bit_inputs_get_every_code() -> None:
    scale, zero = numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.uint8(3), "z")
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 4000])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4000])],
        [scale, zero],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    x = sessions.random_inputs("q", sessions.open_session("q", proto.SerializeToString(), 1), 1, 0)["x"]
    assert x.dtype == np.uint8 and len(np.unique(x)) == 256
