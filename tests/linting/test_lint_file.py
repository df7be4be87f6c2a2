"""lint: files of any kind and size, graphs in nodes and in functions, and what is no file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lsq_export
from lsq_export import QuantizationError, targets
from lsq_export.linting.onnx_file import LARGEST, OnnxFile, open_model
from support.onnx_files import F32, I8, U8, build, node


def weights(rows: int = 600) -> onnx.ModelProto:
    """A product with a weight that saturates in its last row."""
    codes = np.zeros((rows, 2), I8)
    codes[-1] = 127
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s z", "v"),
        node("DequantizeLinear", "w s wz", "wv"),
        node("Gemm", "v wv", "y", name="fc", transB=1),
    ]
    return build(nodes, inputs=(TensorProto.FLOAT, [1, 2]), s=F32(0.5), z=U8(3), w=codes, wz=I8(0))


def rules(found: lsq_export.Lint) -> list[str]:
    return [finding.rule for finding in found.findings]


def test_a_model_in_memory_and_its_file_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "w.onnx"
    onnx.save(weights(), path)
    in_memory, of_file = lsq_export.lint(weights(), "tensorrt"), lsq_export.lint(path, "tensorrt")
    assert in_memory.findings == of_file.findings and not of_file.ok
    assert of_file.file == str(path) and of_file.target == "tensorrt"


def test_notes_break_nothing() -> None:
    found = lsq_export.lint(weights(), "ort-cpu")
    assert rules(found) == ["no-saturation"] and found.findings[0].is_note and found.ok
    assert found.findings[0].places[0].node == "Gemm fc" and "channel 599" in found.findings[0].places[0].what


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(QuantizationError, match=r"target 'openvno' is unknown: use .* \(did you mean openvino\?\)"):
        lsq_export.lint(weights(), "openvno")


def test_external_data_are_read_where_a_rule_needs_them(tmp_path: Path) -> None:
    path = tmp_path / "w.onnx"
    onnx.save(weights(), path, save_as_external_data=True, location="w.data", size_threshold=1024)
    assert (tmp_path / "w.data").stat().st_size >= 1200
    found = lsq_export.lint(path, "ort-cpu")
    assert rules(found) == ["no-saturation"]
    assert open_model(path).bytes == path.stat().st_size + 1200


def test_external_data_that_are_missing_are_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "w.onnx"
    onnx.save(weights(), path, save_as_external_data=True, location="w.data", size_threshold=1024)
    (tmp_path / "w.data").unlink()
    with pytest.raises(QuantizationError, match=r"the values of w cannot be read from w\.data .*: put all files"):
        lsq_export.lint(path, "ort-cpu")
    assert rules(lsq_export.lint(path, "web")) == []  # no rule of it needs them


def test_external_data_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model" / "w.onnx"
    path.parent.mkdir()
    (tmp_path / "secret").write_bytes(bytes(1200))
    onnx.save(weights(), path, save_as_external_data=True, location="w.data", size_threshold=1024)
    proto = onnx.load(path, load_external_data=False)
    (tensor,) = [t for t in proto.graph.initializer if t.external_data]
    for entry in tensor.external_data:
        if entry.key == "location":
            entry.value = "../secret"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(QuantizationError, match="cannot be read from"):
        lsq_export.lint(path, "ort-cpu")


def test_a_file_beyond_protobuf_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)  # a sparse file: no disk is used
    with pytest.raises(QuantizationError, match=r"has 2,147,483,648 bytes, .*: save it with external data"):
        open_model(path)


def test_sizes_of_external_data_count(tmp_path: Path) -> None:
    path = tmp_path / "w.onnx"
    proto = weights()
    tensor = next(t for t in proto.graph.initializer if t.name == "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.data"), ("length", str(2**31))):
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
    assert "file-size" in rules(lsq_export.lint(path, "web"))


@pytest.mark.parametrize("content", [b"", b"no model", bytes(100), b"\x08\x0a"])
def test_what_is_no_onnx_is_bad_input(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.onnx"
    path.write_bytes(content)
    with pytest.raises(QuantizationError, match="cannot be read as ONNX"):
        lsq_export.lint(path, "ort-cpu")


def test_what_is_no_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="is no file: give an ONNX file"):
        lsq_export.lint(tmp_path / "missing.onnx", "ort-cpu")
    with pytest.raises(QuantizationError, match="is a directory"):
        lsq_export.lint(tmp_path, "ort-cpu")


def test_graphs_in_nodes_are_read_with_the_names_around_them() -> None:
    """Both branches of an If; one reads codes and constants of the outer graph."""
    clip = helper.make_graph([node("Clip", "q lo hi", "c", name="inner")], "then", [], [_info("c", TensorProto.UINT8)])
    same = helper.make_graph([node("Identity", "q", "c")], "else", [], [_info("c", TensorProto.UINT8)])
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        helper.make_node("If", ["yes"], ["y"], "if", then_branch=clip, else_branch=same),
    ]
    model = build(nodes, s=F32(1), z=U8(0), lo=U8(0), hi=U8(15), yes=np.array(True))
    found = lsq_export.lint(model, "portable").findings
    assert [f.places[0].node for f in found if f.rule == "no-clip-on-codes"] == ["Clip inner"]
    assert len(OnnxFile(None, model).scopes) == 3


def test_functions_of_the_file_are_what_their_bodies_are() -> None:
    """An operator with a body is of no foreign domain; what its body holds is."""
    body = [node("QLinearSigmoid", "c s z s z", "y", name="inside")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    function = helper.make_function("mine", "Gate", ["c", "s", "z"], ["y"], body, opsets)
    model = build([helper.make_node("Gate", ["c", "s", "z"], ["y"], "gate", domain="mine")], c=U8(3), s=F32(1), z=U8(0))
    model.functions.append(function)
    (finding,) = (f for f in lsq_export.lint(model, "tract").findings if f.rule == "domains")
    assert [place.node for place in finding.places] == ["com.microsoft.QLinearSigmoid inside"]


def test_constants_are_followed_through_identity_and_nodes() -> None:
    nodes = [
        helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(U8(9))),
        node("Identity", "zero", "z"),
        helper.make_node("Constant", [], ["s"], value_float=0.3),
        node("QuantizeLinear", "x s z", "q", name="in"),
        node("DequantizeLinear", "q s z", "y"),
    ]
    found = {f.rule: f.places[0].what for f in lsq_export.lint(build(nodes), "vitis-xint8").findings}
    assert "zero point 9, not 128" in found["zero-points"] and "scale 0.3" in found["power-of-two-scales"]


@pytest.mark.parametrize(
    "broken",
    [
        numpy_helper.from_array(np.zeros(0, I8), "w"),
        onnx.TensorProto(name="w", data_type=3, dims=[4, 4]),  # no values
        onnx.TensorProto(name="w", data_type=99, dims=[1]),
        onnx.TensorProto(name="w", data_type=8, dims=[1], string_data=[b"text"]),
        onnx.TensorProto(name="w", data_type=3, dims=[2**40, 2**40], raw_data=b"1"),
    ],
)
def test_damaged_constants_are_one_line(broken: onnx.TensorProto) -> None:
    """Every target either finds something, or says in one line what is wrong with the constant."""
    model = weights()
    for index, tensor in enumerate(model.graph.initializer):
        if tensor.name == "w":
            model.graph.initializer[index].CopyFrom(broken)
    for target in targets.names():
        try:
            lsq_export.lint(model, target)
        except QuantizationError as error:
            assert "\n" not in str(error) and "w" in str(error)


def test_names_that_lead_in_circles_end() -> None:
    nodes = [node("Identity", "b", "a"), node("Identity", "a", "b"), node("Conv", "a b", "y"), node("Clip", "y", "y")]
    for target in targets.names():
        lsq_export.lint(build(nodes), target)


def test_torch_is_not_imported() -> None:
    program = (
        "import sys, lsq_export; from lsq_export.linting import lint_file; lsq_export.lint; "
        "assert not {'torch', 'onnxruntime', 'onnxscript'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def _info(name: str, kind: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, None)
