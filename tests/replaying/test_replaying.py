"""replay: bundles in runtimes that are installed here, and what is wrong with them."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import lsq_export
from calib.errors import DamagedError, QuantizationError
from lsq_export.replaying import replaying, runtime
from lsq_export.replaying.difference import Difference
from lsq_export.replaying.result import COLUMNS, rows
from support.bundles import export
from support.exported import Exported, prepared

MODULES = {"opencv": "cv2", "emx": "emx_onnx_cgen", "litert": "onnx2tf", "reference": "onnx"}


def test_both_files_give_the_same_integers_in_onnx_runtime(exported: Exported) -> None:
    seen: list[str] = []
    found = lsq_export.replay(
        exported.bundle, "onnxruntime", inputs=exported.inputs, on_run=lambda run: seen.append(run.file)
    )
    assert found.ok and [run.file for run in found.runs] == seen == ["qdq", "qoperator"]
    for run in found.runs:
        assert run.verdict == "same" and run.difference is not None and run.images == 2 + len(exported.inputs)
        assert run.difference.differing == 0 and run.difference.elements == run.images * 5
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["ok"]
    assert "onnxruntime" in repr(found) and all(len(row) == len(COLUMNS) for row in rows(found.runs))


def test_a_file_of_operator_set_21_is_the_same_in_onnxs_reference(tmp_path: Path) -> None:
    bundle = export(prepared(seed=1), tmp_path / "out", target="onnx-standard")
    (run,) = lsq_export.replay(bundle, "reference").runs
    assert run.verdict == "same", run.line


def test_a_runtime_that_refuses_names_the_target(exported: Exported) -> None:
    found = lsq_export.replay(exported.bundle, "reference", formats="qoperator")
    (run,) = found.runs
    assert not found.ok and run.verdict == "refused" and "com.microsoft" in run.why
    assert run.instead == "the file qdq of lsq-export export --target onnx-standard"


@pytest.mark.parametrize("name", [one.name for one in runtime.everything() if one.adapter != "web"])
def test_a_runtime_that_is_not_installed_is_missing_and_no_other(exported: Exported, name: str) -> None:
    if find_spec(MODULES.get(name, name)) is not None:
        pytest.skip("it is installed")
    found = lsq_export.replay(exported.bundle, name, formats="qdq")
    (run,) = found.runs
    assert run.verdict == "missing" and run.why.endswith(runtime.get(name).install) and not found.ok


def test_a_golden_output_that_is_wrong_differs(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference is moved in place of the runtime: no tensor inside differs then."""
    from lsq_export.replaying.expected import Reference

    task = Reference(exported.bundle).task("qdq", None)
    moved = task.golden["output"].copy()
    moved[0, 0] += 1
    task = replace(task, golden={"output": moved})
    monkeypatch.setattr(Reference, "task", lambda *_: task)
    (run,) = lsq_export.replay(exported.bundle, "onnxruntime", formats="qdq").runs
    assert run.verdict == "differs" and run.difference is not None and run.difference.differing == 1
    assert run.first is None and "are equal" in run.why


def test_bad_input(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.bundle
    with pytest.raises(QuantizationError, match=r"^runtime 'tensorflow' is unknown: use onnxruntime, "):
        lsq_export.replay(bundle, "tensorflow")
    with pytest.raises(QuantizationError, match=r"has no format 'lookup': use qdq, qoperator$"):
        lsq_export.replay(bundle, "onnxruntime", formats=["lookup"])
    with pytest.raises(QuantizationError, match=r"^timeout is 0: give seconds, more than 0$"):
        lsq_export.replay(bundle, "onnxruntime", timeout=0)
    with pytest.raises(QuantizationError, match=r"^python is .*/nothing, which is no program: give an interpreter$"):
        lsq_export.replay(bundle, "onnxruntime", python=tmp_path / "nothing")


def test_a_damaged_bundle_is_not_run(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    path = bundle.directory / "qdq/test_data_set_0/output_0.pb"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedError, match=r"qdq/test_data_set_0/output_0.pb is not what was exported"):
        lsq_export.replay(bundle, "onnxruntime")


def as_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The scales in float16, with a Cast behind each: what converters leave of an operator that is to stay float32."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{tensor.name}.half")
            casts.append(onnx.helper.make_node("Cast", [half.name], [tensor.name], to=onnx.TensorProto.FLOAT))
            tensor.CopyFrom(half)
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    return model


def with_constant_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Constants in nodes."""
    for tensor in model.graph.initializer:
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
    model.graph.ClearField("initializer")
    return model


@pytest.mark.parametrize("name", ["qdq", "qoperator"])
def test_a_file_that_a_tool_made_of_one_of_the_bundle(exported: Exported, tmp_path: Path, name: str) -> None:
    """The same integers where it wrote the file in another way, another verdict where it changed the scales."""
    paths = [str(tmp_path / f"{what}.onnx") for what in ("apart", "nodes", "half")]
    onnx.save(exported.file(name), paths[0], save_as_external_data=True, size_threshold=64, location="weights.bin")
    onnx.save(with_constant_nodes(exported.file(name)), paths[1])
    onnx.save(as_float16(exported.file(name)), paths[2])
    found = lsq_export.replay(exported.bundle, "onnxruntime", formats=paths, inputs=exported.inputs, inside=4)
    apart, nodes, half = found.runs
    assert [run.file for run in found.runs] == paths and not found.ok
    for run in (apart, nodes):
        assert run.verdict == "same" and run.inside is not None and run.inside.difference is not None, run.line
        assert run.inside.difference.differing == 0 < run.inside.tensors and not run.instead
    assert half.verdict in ("differs", "refused") and half.instead == "the file of the bundle that it was made of"


def test_a_file_is_run_as_it_lies_there(exported: Exported, tmp_path: Path) -> None:
    """ONNX Runtime does not load a shape from a second file, and does where everything was read into one."""
    file = exported.file("qdq")
    (output,) = file.graph.output
    for node in file.graph.node:
        node.output[:] = ["flat" if name == output.name else name for name in node.output]
    classes = output.type.tensor_type.shape.dim[1].dim_value
    file.graph.initializer.append(numpy_helper.from_array(np.array([-1, classes]), "shape"))
    file.graph.node.append(onnx.helper.make_node("Reshape", ["flat", "shape"], [output.name]))
    paths = [str(tmp_path / f"{what}.onnx") for what in ("whole", "apart")]
    onnx.save(file, paths[0])
    onnx.save(file, paths[1], save_as_external_data=True, size_threshold=0, location="apart.bin")
    whole, apart = lsq_export.replay(exported.bundle, "onnxruntime", formats=paths).runs
    assert whole.verdict == "same" and apart.verdict == "refused", apart.line


def test_what_wants_no_optimization_is_said_to(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the tool that wrote a file it comes, that the default session gives other integers."""
    monkeypatch.setitem(exported.bundle.manifest["formats"]["qdq"], "optimization", "disabled")
    monkeypatch.setattr(replaying, "output_difference", lambda *_: Difference(elements=1, differing=1, largest=1.0))
    (run,) = lsq_export.replay(exported.bundle, "onnxruntime", formats="qdq", inside=False).runs
    assert run.verdict == "differs" and run.instead.startswith("optimization disabled (ORT_DISABLE_ALL)")


def test_a_file_with_other_inputs_is_none_of_the_bundle(exported: Exported, tmp_path: Path) -> None:
    model = onnx.compose.add_prefix(exported.file("qdq"), "a_")
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(QuantizationError, match=r"other.onnx takes a_input, the bundle's files take input: "):
        lsq_export.replay(exported.bundle, "onnxruntime", formats=str(tmp_path / "other.onnx"))
    with pytest.raises(QuantizationError, match=r"nothing.onnx does not exist: give an ONNX file$"):
        lsq_export.replay(exported.bundle, "onnxruntime", formats=str(tmp_path / "nothing.onnx"))
