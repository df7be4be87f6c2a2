"""bench/openvino.py: rows of another runtime, in a process of its own; without the package, one line.

A program that answers in its place runs ONNX Runtime, so that most of this needs no OpenVINO.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from calib.errors import QuantizationError
from lsq_export.bench import RunOptions, children, compare, openvino, plan
from lsq_export.bench.openvino import OpenVINO, feeds_of, installed, openvino_models, row_names
from support.commands import invoke
from support.watched import Watched, needs_strace, watch

needs_openvino = pytest.mark.skipif(installed() is None, reason="the package openvino is not installed")
CHILD = Path(children.__file__).parent / "child"
IN_ITS_PLACE = """
import json, os, signal, sys, numpy as np, onnxruntime as ort
for line in sys.stdin:
    request = json.loads(line)
    if "models" in request:
        models = request["models"]
        if any("deadly" in name for name in models):
            os.kill(os.getpid(), signal.SIGKILL)
        failed = {name: "Error:\\n  why" for name in models if "bad" in name}
        answer = {"precisions": {name: models[name]["precision"] or DEFAULT for name in models if name not in failed},
                  "failed": failed, "threads": min(request["threads"], 3)}
    elif "save" in request:
        model = models[request["save"]]
        with np.load(model["inputs"]) as file:
            outputs = ort.InferenceSession(model["path"]).run(None, dict(file))
        np.savez(request["outputs"], *[1.01 * value if "qdq" in request["save"] else value for value in outputs])
        answer = {}
    elif request["warmup"] == 9:
        sys.exit("out of\\nmemory")
    else:
        answer = {"ms": [1.0 + request["warmup"]] * request["runs"]}
    print(json.dumps(answer), flush=True)
"""


def model(batch: int | str = "N") -> bytes:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", info[:1], info[1:])
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


@pytest.fixture(params=["bf16"])
def in_its_place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openvino_runs.py").write_text(IN_ITS_PLACE.replace("DEFAULT", repr(request.param)))
    monkeypatch.setattr(children, "PROGRAMS", tmp_path)
    monkeypatch.setattr(openvino, "installed", lambda: "2030.1")
    monkeypatch.setattr(plan, "installed", lambda: "2030.1")


def test_files_of_onnxruntimes_own_operators_have_no_row() -> None:
    names = ["float", "qdq", "qoperator", "lookup", "lookup, stock", "quantize_static qdq", "quantize_static qoperator"]
    assert list(row_names(names)) == [
        "openvino float",
        "openvino float f32",
        "openvino qdq",
        "openvino quantize_static qdq",
    ]
    assert row_names(["a/float", "a.onnx"]) == {
        "openvino a/float": "a/float",
        "openvino a/float f32": "a/float",
        "openvino a.onnx": "a.onnx",
    }


def test_without_the_package_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "installed", lambda: None)
    monkeypatch.setattr(plan, "installed", lambda: None)
    assert openvino_models({"float": model()}) == ({}, (openvino.MISSING,)) and "\n" not in openvino.MISSING
    result = invoke("bench", "--model", "tiny", "--openvino")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "openvino is not installed: pip install 'lsq-export[openvino]', or leave out --openvino" in result.stderr


@pytest.mark.usefixtures("in_its_place")
def test_notes_say_what_is_left_out_and_how_near_the_outputs_are() -> None:
    rows, notes = openvino_models({"float": model(), "qdq": model(3), "bad": model(), "qoperator": b"not read"})
    assert list(rows) == ["openvino float", "openvino float f32", "openvino qdq"]
    assert notes == (
        "openvino bad is left out: OpenVINO 2030.1 refuses it: Error: why",
        "OpenVINO 2030.1: bf16 by default here",
        "OpenVINO's outputs against ONNX Runtime's of the same file: float equal, float f32 equal, qdq 40.0 dB",
    )


@pytest.mark.usefixtures("in_its_place")
def test_a_model_that_ends_the_process_leaves_the_others_their_rows() -> None:
    rows, notes = openvino_models({"deadly": model(), "qdq": model(3)})
    assert list(rows) == ["openvino qdq"]
    assert notes[0] == (
        "openvino deadly is left out: OpenVINO 2030.1 fails on it: its process ended with exit code -9 (no message)"
    )
    rows, notes = openvino_models({"deadly float": model()})
    assert rows == {} and len(notes) == 2


@pytest.mark.usefixtures("in_its_place")
@pytest.mark.parametrize("in_its_place", ["f32"], indirect=True)
def test_where_the_default_is_float32_there_is_no_second_row() -> None:
    rows, notes = openvino_models({"float": model()})
    assert list(rows) == ["openvino float"]
    assert notes[0] == "OpenVINO 2030.1: f32 by default here, so no openvino float f32"


@pytest.mark.usefixtures("in_its_place")
def test_it_takes_turns_with_the_others() -> None:
    turns: list[str] = []
    options = RunOptions(runs=3, threads=1, warmup=1, pause=0.0, batch=2)
    result = compare({"float": model(), "openvino float": model()}, options, on_block=turns.append)
    assert turns == ["float", "openvino float"] * 3
    row = result.rows[1]
    assert (row.block_ms, row.median_ms, row.images_per_second) == ((2.0,) * 3, 2.0, 1000.0)
    assert result.openvino == "2030.1" and compare({"float": model()}, options).openvino is None
    many = replace(options, threads=4, runs=1)
    assert compare({"openvino float": model()}, many).openvino == "2030.1 (3 threads, not 4)"


@pytest.mark.usefixtures("in_its_place")
@pytest.mark.parametrize(
    ("name", "warmup", "says"),
    [
        ("openvino bad", 1, "model openvino bad: OpenVINO refuses it: Error: why"),
        ("openvino a", 9, r"model openvino a: OpenVINO cannot run it: .*exit code 1 \(memory\)"),
    ],
)
def test_a_model_that_fails_later_is_one_line(name: str, warmup: int, says: str) -> None:
    with pytest.raises(QuantizationError, match=says) as error:
        compare({name: model()}, RunOptions(runs=1, threads=1, warmup=warmup, pause=0.0))
    assert "\n" not in str(error.value)


def test_a_process_without_the_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openvino_runs.py").write_text("import no_such_package")
    monkeypatch.setattr(children, "PROGRAMS", tmp_path)
    rows = {"openvino a": model()}
    with pytest.raises(QuantizationError, match=r"exit code 1 \(ModuleNotFoundError: No module named 'no_such_pack"):
        OpenVINO(rows, feeds_of(rows, 1, 0), 1)


@pytest.mark.usefixtures("in_its_place")
def test_files_and_bundles_have_rows_if_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(model())
    subject = plan.subject_of_bundle(path, openvino=True)
    assert subject.models == {str(path): path, f"openvino {path}": path} and "equal" in subject.notes[-1]
    assert list(plan.subject_of_bundle(path).models) == [str(path)]
    for asked, settings in ((None, False), (True, True)):
        (entry,) = plan.plan([path], [], openvino=asked)
        assert entry.settings["openvino"] is settings


@needs_openvino
def test_the_package_itself_runs_a_model() -> None:
    rows: dict[str, children.Source] = {"openvino a f32": model(), "openvino bad": b"junk"}
    feeds = {name: {"x": np.arange(8, dtype=np.float32).reshape(2, 4)} for name in rows}
    with OpenVINO(rows, feeds, threads=1) as runtime:
        assert list(runtime.failed) == ["openvino bad"] and runtime.precisions == {"openvino a f32": "f32"}
        times = runtime.block("openvino a f32", runs=3, warmup=1, pause=0.0)
        assert len(times) == 3 and min(times) > 0
        (y,) = runtime.outputs("openvino a f32")
        assert np.array_equal(y, 2 * feeds["openvino a f32"]["x"])


@needs_strace
@needs_openvino
def test_nothing_is_told_to_its_maker(tmp_path: Path) -> None:
    """Importing it imports openvino-telemetry, which sends an event and writes an id; here, one that writes a file."""
    for name in ("work", "home", "temporary", "path"):
        (tmp_path / name).mkdir()
    telling = "import pathlib; (pathlib.Path.home() / 'told').write_text('')"
    (tmp_path / "path" / "openvino_telemetry.py").write_text(telling)

    def run(code: str) -> Watched:
        command = [sys.executable, "-B", "-c", f"import sys; sys.path.insert(0, {str(CHILD)!r}); {code}"]
        places = [tmp_path / name for name in ("work", "home", "temporary")]
        return watch(
            command, *places, PYTHONPATH=os.pathsep.join((str(tmp_path / "path"), *filter(None, sys.path[1:])))
        )

    found = run("import openvino_runs as runs; runs.quiet_openvino().Core()")
    assert (found.code, found.network, found.changed) == (0, [], []), found.output
    assert run("import openvino").changed == [str(tmp_path / "home" / "told")]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--batch", "1,0"], "0 is not in the range x>=1"),
        (["--batch", "2,8,2"], "'2,8,2' has a number twice"),
        (["--batch", "1,"], "'' is not a valid integer"),
        (["--threads", "1,100000"], "100000 is too large"),
    ],
)
def test_lists_that_are_none_are_named(options: list[str], says: str) -> None:
    result = invoke("bench", "--model", "tiny", *options)
    assert result.exit_code == 2 and says in result.stderr and result.stderr.count("\n") == 1


def test_each_batch_size_with_each_number_of_threads(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.onnx").write_bytes(model())
    made = []
    subject = plan.subject_of_bundle(tmp_path / "a.onnx", tmp_path / "b.onnx")
    entry = plan.Planned(name="a", settings={}, make=lambda on_stage: made.append(1) or subject)
    options = [
        RunOptions(batch=batch, threads=threads, runs=1, warmup=0, pause=0.0) for batch in (1, 8) for threads in (1, 2)
    ]
    found = [(m.timing.batch, m.timing.threads) for m in plan.run([entry], options, details=False, repeat=2)]
    assert found == [pair for pair in ((1, 1), (1, 2), (8, 1), (8, 2)) for _ in range(2)] and made == [1]
    assert sys.modules.get("openvino") is None
