"""`lsq-export replay`: table, JSON and exit codes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from lsq_export.bundle.sums import changed_files, strange_files
from lsq_export.replaying.result import Replay, Replayed
from support.commands import invoke
from support.exported import Exported


def test_a_bundle_that_is_the_same(exported: Exported) -> None:
    result = invoke("replay", exported.bundle.directory, "--runtime", "onnxruntime")
    assert result.exit_code == 0, result.output
    assert "0 of 10" in result.stdout and result.stdout.count("same") == 2
    assert "onnxruntime, qdq: same" in result.stderr


def test_json_with_data(exported: Exported) -> None:
    result = invoke(
        *("replay", exported.bundle.directory, "--runtime", "onnxruntime", "--format", "qdq", "--json"),
        *("--data", exported.data, "--images", 3, "--python", sys.executable),
    )
    (run,) = json.loads(result.stdout)["runs"]
    assert result.exit_code == 0 and run["images"] == 5 and run["difference"]["differing"] == 0


def test_all_tensors(exported: Exported) -> None:
    options = ("replay", exported.bundle.directory, "--runtime", "onnxruntime", "--data", exported.data, "--tensors", 2)
    result = invoke(*options, "--json")
    assert result.exit_code == 0, result.output
    for run in json.loads(result.stdout)["runs"]:
        inside = run["inside"]
        assert inside["images"] == 2 and inside["tensors"] > 8 and inside["difference"]["differing"] == 0
    assert "differ, on 2 inputs" in " ".join(invoke(*options).stdout.split())
    assert invoke(*options, "--no-inside").exit_code == 2


def test_results_are_kept_in_the_bundle_and_shown_in_its_report(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    for name in ("qdq", "qoperator", "qdq"):  # the last one takes the place of the first
        options = ("--runtime", "onnxruntime", "--format", name, "--record")
        assert invoke("replay", bundle.directory, *options).exit_code == 0
    runs = json.loads((bundle.directory / "replay.json").read_text())["runs"]
    assert [run["file"] for run in runs] == ["qdq", "qoperator"]
    html = (bundle.directory / "report.html").read_text(encoding="utf-8")
    assert "In real runtimes" in html and html.count("same: 0 of 10") == 2
    assert changed_files(bundle) == [] and strange_files(bundle) == []
    invoke("report", bundle.directory)
    assert (bundle.directory / "report.html").read_text(encoding="utf-8") == html
    (bundle.directory / "replay.json").write_text('{"runs": []}')
    assert changed_files(bundle) == ["replay.json"]


def test_one_that_refuses_fails(exported: Exported) -> None:
    result = invoke("replay", exported.bundle.directory, "--runtime", "reference", "--format", "qoperator")
    assert result.exit_code == 1
    assert "lsq-export export --target onnx-standard" in " ".join(result.stdout.split())


def test_a_file_of_another_tool(exported: Exported, tmp_path: Path) -> None:
    """It is run in place of the bundle's files, wherever it lies."""
    path = tmp_path / "model.onnx"
    path.write_bytes(exported.bundle.models["qdq"].read_bytes())
    result = invoke("replay", exported.bundle.directory, "--runtime", "onnxruntime", "--file", path, "--json")
    (run,) = json.loads(result.stdout)["runs"]
    assert result.exit_code == 0 and run["file"] == str(path) and run["difference"]["differing"] == 0


def test_what_golden_outputs_do_not_show_is_found_inside(exported: Exported, tmp_path: Path) -> None:
    """Other weights can leave a few outputs as they were; codes inside are compared without being asked for."""
    path = tmp_path / "model.onnx"
    file = onnx.load(exported.bundle.models["qdq"])
    for stored in file.graph.initializer:
        if len(stored.dims) == 4:
            codes = onnx.numpy_helper.to_array(stored).copy()
            codes.reshape(-1)[0] ^= 1
            stored.CopyFrom(onnx.numpy_helper.from_array(codes, stored.name))
    onnx.save(file, path)
    arguments = ("replay", exported.bundle.directory, "--runtime", "onnxruntime", "--file", path)
    result = invoke(*arguments, "--json")
    (run,) = json.loads(result.stdout)["runs"]
    assert result.exit_code == 1 and run["verdict"] == "differs" and run["inside"]["difference"]["differing"] > 0


def test_a_comparison_that_was_asked_for_and_cannot_be_made_fails(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    file = onnx.load(exported.bundle.models["qdq"])
    kept = {value.name for value in (*file.graph.input, *file.graph.output)} | {s.name for s in file.graph.initializer}
    for node in file.graph.node:  # a tool may give all tensors other names
        for names in (node.input, node.output):
            names[:] = [name if name in kept or not name else f"n{name}" for name in names]
    del file.graph.value_info[:]
    onnx.save(file, path)
    arguments = ("replay", exported.bundle.directory, "--runtime", "onnxruntime", "--file", path)
    outputs = invoke(*arguments, "--json")
    (run,) = json.loads(outputs.stdout)["runs"]
    assert outputs.exit_code == 0 and "outputs alone were compared" in run["inside"]["why"]
    result = invoke(*arguments, "--tensors", 2)
    assert result.exit_code == 1 and "--tensors was asked for; inside: no tensor of codes" in result.stderr


def test_a_damaged_bundle_fails(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    bundle.models["qdq"].write_bytes(b"")
    result = invoke("replay", bundle.directory, "--runtime", "onnxruntime")
    assert result.exit_code == 1 and result.stderr.startswith("error: bundle") and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give either --runtime NAME or --all"),
        (("--runtime", "onnxruntime", "--all"), "give either --runtime NAME or --all"),
        (("--all", "--file", __file__), "test_cmd_replay.py is no ONNX file: replay takes FILE.onnx"),
        (("--runtime", "onxruntime"), "did you mean onnxruntime?"),
        (("--runtime", "onnxruntime", "--format", "lookup"), "has no format 'lookup'"),
        (("--runtime", "onnxruntime", "--timeout", "0"), "0"),
        (("--runtime", "onnxruntime", "--data", "digits"), "replay takes npz:FILE"),
    ],
)
def test_bad_input(exported: Exported, arguments: tuple[str, ...], said: str) -> None:
    result = invoke("replay", exported.bundle.directory, *arguments)
    assert result.exit_code == 2 and said in result.stderr


def test_one_array_is_no_npz(exported: Exported, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    data = ("--data", f"npz:{tmp_path / 'x.npy'}")
    result = invoke("replay", exported.bundle.directory, "--runtime", "onnxruntime", *data)
    assert result.exit_code == 2 and "x.npy is one array: give a .npz with x" in result.stderr


@pytest.mark.slow
def test_all_that_are_installed_may_refuse_a_file_but_none_may_differ(exported: Exported, tmp_path: Path) -> None:
    """Each runtime lacks operators of one of the files, which nobody asked it for by name."""
    result = invoke("replay", exported.bundle.directory, "--all", "--no-inside")
    assert result.exit_code == int("differs" in result.stdout), "OpenVINO differs, where it is installed"
    assert "refused" in result.stdout and "missing" not in result.stdout and "not installed: " in result.stdout
    run = Replayed(runtime="a", version="1", file="qdq", target="t", verdict="same", images=1)
    for verdict, same in (("refused", True), ("missing", True), ("differs", False), ("crashed", False)):
        both = Replay(bundle=tmp_path, runs=(run, replace(run, verdict=verdict)))
        assert both.same_where_taken is same and both.ok is (verdict == "missing")
    assert not Replay(bundle=tmp_path, runs=(replace(run, verdict="refused"),)).same_where_taken
