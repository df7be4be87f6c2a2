"""bench beyond latency: operator shares, memory, int8 peak, measurements, the journal.

Numbers are judged only where load cannot change them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from calib.errors import QuantizationError
from lsq_export.bench import BenchResult, Latency, Measurement, RunOptions, Subject, children, measure
from lsq_export.bench.journal import Journal, summarize
from lsq_export.bench.measurement import intervals_of, speedups_of, steps
from lsq_export.bench.memory import peak_memory
from lsq_export.bench.operators import operator_shares
from lsq_export.bench.peak import int8_peak
from lsq_export.bench.work import operations
from lsq_export.report.bench import render_bench
from support.benches import bench_of

SETTINGS = {"network": "a", "runs": 5}


def model(width: int = 4) -> bytes:
    """x [N, width] @ w, then two additions."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "x"], ["a"]),
        helper.make_node("Add", ["a", "x"], ["y"]),
    ]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]) for name in "xy"]
    graph = helper.make_graph(
        nodes, "g", info[:1], info[1:], [numpy_helper.from_array(np.ones((width, width), np.float32), "w")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def feed(width: int = 4) -> dict[str, np.ndarray]:
    return {"x": np.ones((1, width), np.float32)}


def measured(runs: int = 5, **options: Any) -> Measurement:
    subject = Subject("a <b>", {"float": model(), "qoperator": model(9)}, "made here", ("a note",))
    return measure(subject, RunOptions(runs=runs, threads=1, warmup=0, pause=0.0), peak_sizes=(32,), **options)


@pytest.fixture(scope="module")
def measurement() -> Measurement:
    """As on a machine that was not busy."""
    found = measured()
    return replace(found, timing=replace(found.timing, busy=None))


def with_times(**medians: float) -> BenchResult:
    """Keys with _ in place of blanks, for keywords."""
    rows = [
        Latency(
            name=name.replace("__", " "),
            median_ms=ms,
            low_quartile_ms=ms,
            high_quartile_ms=ms,
            images_per_second=1e3 / ms,
            speedup=medians["float"] / ms,
            runs=5,
            file_bytes=1,
        )
        for name, ms in medians.items()
    ]
    return BenchResult(rows=tuple(rows), baseline="float", batch=1, threads=1, onnxruntime="1.0")


def test_shares_are_of_the_optimized_graph_and_sum_to_1() -> None:
    shares = operator_shares("m", model(300), feed(300), threads=1)
    assert {name: share.nodes for name, share in shares.items()} in ({"MatMul": 1, "Add": 2}, {"Gemm": 1, "Add": 1})
    assert sum(share.share for share in shares.values()) == pytest.approx(1, abs=1e-12)
    assert [s.share for s in shares.values()] == sorted((s.share for s in shares.values()), reverse=True)
    assert all(share.ms > 0 for share in shares.values())


def test_a_model_without_operators_cannot_be_profiled() -> None:
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    proto = helper.make_model(
        helper.make_graph([], "g", [info], [info]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    with pytest.raises(QuantizationError, match="model empty: "):
        operator_shares("empty", proto.SerializeToString(), {"x": np.ones(1, np.float32)})


def test_memory_is_of_the_model_and_not_of_the_process_that_asks() -> None:
    here = np.ones(60_000_000, np.float32)  # 240 MB, which ru_maxrss of a child would count
    small = peak_memory("small", model(), feed(), threads=1)
    large = peak_memory("large", model(3000), feed(3000), threads=1)
    assert here[-1] == 1 and 0 <= small < 60e6
    assert 36e6 < large - small < 10 * 36e6  # the weights once at least


def test_a_model_that_a_child_cannot_load_is_one_line() -> None:
    with pytest.raises(
        QuantizationError, match=r"model a: its memory cannot be measured: .*Load model from .*failed"
    ) as error:
        peak_memory("a", b"junk", feed())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import os; os._exit(3)", r"exit code 3 \(no message\)"),
        ("raise ValueError('no\\nway')", r"exit code 1 \(way\)"),
        ("print('noise'); print('{\"error\": \"a\\\\nb\"}')", "^a b$"),
    ],
)
def test_a_child_that_fails_is_one_line(
    program: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.py").write_text(program)
    monkeypatch.setattr(children, "PROGRAMS", tmp_path)
    with pytest.raises(QuantizationError, match=says):
        children.run_child("bad", {}, tmp_path)


def test_a_child_works_in_its_directory_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    imports = "import json, os, sys, tempfile; print('noise'); sys.stderr.write('noise'); "
    answer = "print(json.dumps({'at': os.getcwd(), 'temporary': tempfile.gettempdir(), 'asked': json.load(sys.stdin)}))"
    (tmp_path / "good.py").write_text(imports + answer)
    monkeypatch.setattr(children, "PROGRAMS", tmp_path)
    assert children.run_child("good", {"n": 1}, tmp_path) == {
        "at": str(tmp_path),
        "temporary": str(tmp_path),
        "asked": {"n": 1},
    }
    assert capfd.readouterr() == ("", "")


def test_operations_are_counted_by_hand() -> None:
    """A grouped convolution with stride and padding, then a product: 2 × elements × products each."""
    weights = [("c", (6, 2, 3, 3)), ("f", (5, 6 * 4 * 4)), ("shape", None)]
    constants = [
        numpy_helper.from_array(np.array([0, -1]) if dims is None else np.zeros(dims, np.float32), name)
        for name, dims in weights
    ]
    nodes = [
        helper.make_node("Conv", ["x", "c"], ["y"], group=2, strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["y", "shape"], ["r"]),
        helper.make_node("Gemm", ["r", "f"], ["z"], transB=1),
    ]
    info = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 8, 8]),
        helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 5]),
    ]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for batch in (1, 3):
        assert operations(proto.SerializeToString(), batch) == 2 * batch * (6 * 4 * 4 * 2 * 9 + 5 * 96)
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    assert operations(proto.SerializeToString()) is None
    assert operations(model(7), 2) == 2 * 2 * 7 * 7


def test_int8_peak() -> None:
    assert int8_peak(1, sizes=(32, 64), runs=2) > 0


def test_speedups_are_how_many_times_faster_ours_is() -> None:
    times = with_times(float=6.0, qdq=4.0, qoperator=2.0, quantize_static__qdq=5.0, quantize_static__qoperator=3.0)
    assert speedups_of(times) == {
        "float": 3.0,
        "quantize_static": 1.5,
        "quantize_static qdq": 2.5,
        "quantize_static qoperator": 1.5,
        "qdq": 2.0,
    }
    elsewhere = with_times(float=6.0, lookup=2.0, openvino__float=5.0, openvino__float__f32=9.0, openvino__qdq=4.0)
    assert speedups_of(elsewhere) == {
        "float": 3.0,
        "openvino": 2.0,
        "openvino float": 2.5,
        "openvino float f32": 4.5,
        "openvino qdq": 2.0,
    }
    assert speedups_of(with_times(float=6.0, qoperator=2.0)) == {"float": 3.0}
    assert speedups_of(with_times(float=6.0, qdq=2.0)) == {}


def test_a_measurement_goes_through_json(measurement: Measurement) -> None:
    assert Measurement.from_dict(json.loads(json.dumps(measurement.to_dict()))) == measurement
    assert measurement.to_dict()["rows"][0]["name"] == "float" and measurement.machine
    assert measurement.int8_peak and measurement.int8_peak > 0
    assert set(measurement.operators) == set(measurement.peak_bytes) == {"float", "qoperator"}
    assert measurement.speedups["float"] == measurement.timing.rows[0].median_ms / measurement.timing.rows[1].median_ms


def test_steps_and_no_details() -> None:
    called: list[str] = []
    measured(on_step=called.append)
    models = {"float": b"", "qoperator": b""}
    assert len(called) == steps(models, RunOptions(runs=5)) and called[0] == "time float" and called[-1] == "int8 peak"
    called.clear()
    bare = measured(on_step=called.append, details=False, runs=3)
    assert len(called) == steps(models, RunOptions(runs=3), details=False) == 6
    assert (bare.operators, bare.peak_bytes, bare.int8_peak) == ({}, {}, None)


def test_html_has_the_numbers_and_escapes_names(measurement: Measurement) -> None:
    page = render_bench([measurement, measurement])
    for row in measurement.timing.rows:
        assert f"<td>{row.median_ms:.2f}</td>" in page and f"{row.file_bytes / 1e6:.2f} MB" in page
        assert f"{measurement.peak_bytes[row.name] / 1e6:.2f} MB" in page
    assert (
        f"{measurement.ratios['float'].text} × float" in page
        and f"{measurement.int8_peak:.0f} GOP/s" in page
        and "a note" in page
    )
    for operator, share in measurement.operators["qoperator"].items():
        assert f"<td>{operator}</td>" in page and f"{100 * share.share:.1f} % ({share.nodes})" in page
    assert "a &lt;b&gt;" in page and "<b>" not in page and "the median of the runs" in page
    busy = replace(measurement, timing=replace(measurement.timing, busy="load 9"))
    page = render_bench([busy, busy])
    assert "too busy to tell: load 9" in page and " × float" not in page and "the median of the runs" not in page
    bare = render_bench([measured(details=False)])
    assert "share of the time" not in bare and "the median of the runs" not in bare and "int8 peak" not in bare.lower()


def test_a_record_of_a_version_without_intervals_is_read(measurement: Measurement) -> None:
    old = json.loads(json.dumps(measurement.to_dict()))
    for gone in ("busy", "intervals", "openvino", "instruction_set"):
        del old[gone]
    for row in old["rows"]:
        del row["low"], row["high"], row["block_ms"], row["images_per_second"]
    read = Measurement.from_dict(old)
    assert read.speedups == measurement.speedups and read.ratios["float"].value == measurement.speedups["float"]
    assert [r.images_per_second for r in read.timing.rows] == [r.images_per_second for r in measurement.timing.rows]


def test_intervals_are_of_the_same_models_as_speedups() -> None:
    times = {"float": 6.0, "qdq": 4.0, "qoperator": 2.0, "quantize_static qdq": 5.0, "quantize_static qoperator": 3.0}
    result = bench_of(times, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.1, 2.0])
    speedups, intervals = speedups_of(result), intervals_of(result)
    assert list(intervals) == list(speedups) and intervals["quantize_static"] == intervals["quantize_static qoperator"]
    assert all(low <= speedups[name] <= high for name, (low, high) in intervals.items())


def test_a_busy_run_is_in_no_median(measurement: Measurement) -> None:
    busy = replace(measurement, timing=replace(measurement.timing, busy="load 9"))
    (summary,) = summarize([measurement, busy])
    assert summary.runs == 1 and summarize([busy]) == [] and busy.ratios == {} and measurement.ratios


def test_journal_keeps_runs_apart_by_their_settings(measurement: Measurement, tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    journal = Journal(path)
    assert journal.measurements(SETTINGS) == []
    journal.append(SETTINGS, measurement)
    journal.append({**SETTINGS, "runs": 6}, measurement)
    assert journal.measurements(SETTINGS) == [measurement] and Journal(path).measurements(SETTINGS) == [measurement]
    assert Journal(path).measurements({**SETTINGS, "runs": 7}) == [] and len(path.read_text().splitlines()) == 2


def test_journal_drops_a_line_that_was_cut(measurement: Measurement, tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    Journal(path).append(SETTINGS, measurement)
    path.write_text(path.read_text() * 2)
    path.write_text(path.read_text()[:-9])
    journal = Journal(path)
    assert journal.measurements(SETTINGS) == [measurement]
    journal.append(SETTINGS, measurement)
    assert Journal(path).measurements(SETTINGS) == [measurement] * 2


@pytest.mark.parametrize(
    "line", ["junk", "[]", "{}", '{"settings": {}, "record": {}}', '{"settings": 1, "record": {}}']
)
def test_a_foreign_journal_is_named(line: str, measurement: Measurement, tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    Journal(path).append(SETTINGS, measurement)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(QuantizationError, match=r"bench.jsonl, line 2: no record of lsq-export bench"):
        Journal(path)


def test_a_journal_that_cannot_be_read_or_written_is_named(measurement: Measurement, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(QuantizationError, match="binary cannot be read as JSON lines"):
        Journal(tmp_path / "binary")
    with pytest.raises(QuantizationError, match="cannot be written"):
        Journal(tmp_path / "no" / "b.jsonl").append(SETTINGS, measurement)


def test_summary_is_the_median_of_the_runs(measurement: Measurement) -> None:
    def run(network: str, **speedups: float) -> Measurement:
        return Measurement.from_dict({**measurement.to_dict(), "network": network, "speedups": speedups})

    other = run("r", float=7.0)
    other = replace(other, timing=replace(other.timing, batch=8))
    one, two, three = summarize(
        [run("r", float=3.0, peer=1.0), run("m", float=9.0), run("r", float=1.0), other, run("r", float=2.0, peer=4.0)]
    )
    assert (three.network, three.batch, three.threads, three.speedups) == ("r", 8, 1, {"float": [7.0]})
    assert (one.network, one.runs, one.speedups, one.median("float")) == ("r", 3, {"float": [3.0, 1.0, 2.0]}, 2.0)
    assert (two.network, two.runs, two.median("float")) == ("m", 1, 9.0)
