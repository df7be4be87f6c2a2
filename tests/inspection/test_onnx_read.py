"""lsq_export/inspection/onnx_read.py: files that cannot be read, constants, shapes, operands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calib.errors import QuantizationError
from lsq_export.inspection.onnx_read import Constants, Operand, attribute, load_model, operands, shapes_of
from support.onnx_files import F32, I8, build, node, qlinear_conv, weight


@pytest.mark.parametrize("content", [b"", b"junk junk junk", b"\x08\x07"])
def test_damaged_files_are_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    with pytest.raises(QuantizationError, match=r"model\.onnx cannot be read as ONNX"):
        load_model(file)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(qlinear_conv(weight(), F32(1)).SerializeToString()[:-40])
    with pytest.raises(QuantizationError, match="cannot be read as ONNX"):
        load_model(file)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="is a directory: give an ONNX file"):
        load_model(tmp_path)
    with pytest.raises(QuantizationError, match=r"none\.onnx does not exist"):
        load_model(tmp_path / "none.onnx")


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    model = qlinear_conv(weight(), F32(1))
    onnx.save(model, tmp_path / "model.onnx")
    assert load_model(str(tmp_path / "model.onnx")) == model


def test_constants_are_initializers_and_constant_nodes() -> None:
    stored = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(I8(-3)))
    packed = helper.make_tensor("p", TensorProto.INT4, (3,), [-8, 7, 1])
    constants = Constants(build([stored, node("Relu", "x", "y")], s=F32(0.5), p=packed))
    assert (constants.type("c"), constants.type("s"), constants.type("p")) == ("INT8", "FLOAT", "INT4")
    assert constants.type("x") is constants.get("x") is constants.get("") is None
    for name, value, kind in (("c", -3, np.int64), ("s", 0.5, np.float64), ("p", [-8, 7, 1], np.int64)):
        array = constants.get(name)
        assert array is not None and array.dtype == kind and array.tolist() == value


def test_shapes_are_stated_or_inferred() -> None:
    shapes = shapes_of(build([node("MaxPool", "x", "p", kernel_shape=[2, 2]), node("Relu", "p", "y")]))
    assert shapes["x"] == ("N", 3, 8, 8) and shapes["p"] == shapes["y"] == ("N", 3, 7, 7)


def test_operators_that_contradict_each_other_leave_what_the_file_states() -> None:
    broken = build([node("Conv", "x w", "y")], w=np.zeros((4, 5, 3, 3), F32))
    assert shapes_of(broken)["x"] == ("N", 3, 8, 8)


def test_operands_of_a_convolution() -> None:
    conv = node("QLinearConv", "q s z w ws wz ys yz b", "y")
    assert list(operands(conv)) == [
        Operand("q", "s", "z"),
        Operand("w", "ws", "wz"),
        Operand("b", "", "", is_bias=True),
        Operand("y", "ys", "yz", is_output=True),
    ]


def test_operands_of_a_concatenation_have_a_grid_each() -> None:
    concat = node("QLinearConcat", "s3 z3 a s1 z1 b s2 z2", "c", axis=1)
    found = [(operand.tensor, operand.scale, operand.is_output) for operand in operands(concat)]
    assert found == [("a", "s1", False), ("b", "s2", False), ("c", "s3", True)]


def test_an_operator_without_grids_has_no_operands() -> None:
    assert list(operands(node("Relu", "x", "y"))) == []


def test_an_attribute_has_a_default() -> None:
    conv = node("Conv", "x w", "y", group=2)
    assert (attribute(conv, "group"), attribute(conv, "pads"), attribute(conv, "pads", [0])) == (2, None, [0])
