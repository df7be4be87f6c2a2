"""lsq_export/inspection/tensors.py: a row for every tensor of every operator that carries grids."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from calib.errors import QuantizationError
from lsq_export.inspection.tensors import inspect_model, inspect_path
from support.onnx_files import F32, I8, I32, U8, build, node, qlinear_conv, rows_of, weight


def test_qlinear_conv_per_tensor() -> None:
    rows = rows_of(qlinear_conv(weight(gain=8), F32(0.125)))
    assert list(rows) == ["q", "w", "b", "y"]
    assert astuple(rows["q"]) == ("q", "activation", "UINT8", 8, 256, None, (0.5,), (128,), None, ("N", 3, 8, 8))
    assert astuple(rows["w"]) == ("w", "weight", "INT8", 4, 16, 8, (0.125,), (0,), None, (4, 3, 3, 3))
    assert astuple(rows["y"]) == ("y", "activation", "UINT8", 8, 256, None, (0.25,), (7,), None, ("N", 4, 8, 8))
    assert astuple(rows["b"]) == ("b", "bias", "INT32", 32, None, None, (0.0625,), (0,), None, (4,))


def test_qlinear_conv_per_channel() -> None:
    scales = np.array([1, 2, 4, 8], F32)
    rows = rows_of(qlinear_conv(weight(bits=3), scales))
    assert (rows["w"].axis, rows["w"].scale, rows["w"].zero_point, rows["w"].bits) == (0, (1, 2, 4, 8), (0,) * 4, 3)
    assert (rows["b"].axis, rows["b"].scale) == (0, (0.5, 1, 2, 4))
    assert rows["q"].axis is None and rows["y"].axis is None


def test_qdq() -> None:
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s z", "xf"),
        node("DequantizeLinear", "w ws wz", "wf", axis=0),
        node("DequantizeLinear", "b bs -", "bf", axis=0),
        node("Conv", "xf wf bf", "yf"),
    ]
    scales = np.array([1, 2, 4, 8], F32)
    rows = rows_of(
        build(
            nodes,
            s=F32(0.5),
            z=I8(-3),
            w=weight(),
            ws=scales,
            wz=np.zeros(4, I8),
            b=np.zeros(4, I32),
            bs=scales * F32(0.5),
        )
    )
    assert [(r.name, r.kind, r.type, r.axis) for r in rows.values()] == [
        ("q", "activation", "INT8", None),
        ("w", "weight", "INT8", 0),
        ("b", "bias", "INT32", 0),
    ]
    assert rows["b"].zero_point == (0,) and rows["b"].scale == (0.5, 1, 2, 4)


@pytest.mark.parametrize(
    ("data_type", "name", "bits"),
    [(TensorProto.INT4, "INT4", 4), (TensorProto.UINT4, "UINT4", 4), (TensorProto.INT8, "INT8", 3)],
)
def test_narrow_containers(data_type: int, name: str, bits: int) -> None:
    codes = [0, 3, 5, 7, 1, 2] if name != "INT4" else [-8, 7, 0, 1, 2, 3]
    w, z = helper.make_tensor("w", data_type, (2, 3), codes), helper.make_tensor("z", data_type, (), [0])
    rows = rows_of(build([node("DequantizeLinear", "w s z", "y")], opset=21, w=w, s=F32(0.1), z=z))
    assert (rows["w"].type, rows["w"].bits) == (name, bits if name != "UINT4" else 3)
    q = rows_of(build([node("QuantizeLinear", "x s z", "y")], opset=21, s=F32(0.1), z=z))["y"]
    assert (q.type, q.bits, q.levels) == (name, 2**3 if name == "INT8" else 4, 256 if name == "INT8" else 16)


def test_output_type_without_zero_point() -> None:
    assert rows_of(build([node("QuantizeLinear", "x s", "y")], s=F32(0.1)))["y"].type == "UINT8"
    typed = node("QuantizeLinear", "x s", "y", output_dtype=TensorProto.INT8)
    assert rows_of(build([typed], opset=21, s=F32(0.1)))["y"].type == "INT8"


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_binary_operators(op: str) -> None:
    nodes = [
        node("QuantizeLinear", "x s1 z1", "a"),
        node("QuantizeLinear", "x s2 z2", "b"),
        node(op, "a s1 z1 b s2 z2 s3 z3", "c"),
    ]
    rows = rows_of(build(nodes, s1=F32(1), z1=U8(1), s2=F32(2), z2=U8(2), s3=F32(4), z3=U8(3)))
    assert {name: (r.scale, r.zero_point) for name, r in rows.items()} == {
        "a": ((1,), (1,)),
        "b": ((2,), (2,)),
        "c": ((4,), (3,)),
    }


@pytest.mark.parametrize("op", ["QLinearGlobalAveragePool", "QLinearSigmoid", "QLinearAveragePool"])
def test_unary_operators(op: str) -> None:
    nodes = [node("QuantizeLinear", "x s1 z1", "a"), node(op, "a s1 z1 s3 z3", "c")]
    assert rows_of(build(nodes, s1=F32(1), z1=U8(1), s3=F32(4), z3=U8(3)))["c"].scale == (4,)


def test_concat() -> None:
    nodes = [
        node("QuantizeLinear", "x s1 z1", "a"),
        node("QuantizeLinear", "x s2 z2", "b"),
        node("QLinearConcat", "s3 z3 a s1 z1 b s2 z2", "c", axis=1),
    ]
    rows = rows_of(build(nodes, s1=F32(1), z1=U8(1), s2=F32(2), z2=U8(2), s3=F32(4), z3=U8(3)))
    assert {name: r.scale for name, r in rows.items()} == {"a": (1,), "b": (2,), "c": (4,)}


@pytest.mark.parametrize(("trans_b", "axis"), [(0, 1), (1, 0)])
def test_qgemm_with_float_output_and_channel_axis(trans_b: int, axis: int) -> None:
    """Without an output scale QGemm makes a float tensor, which has no row."""
    w = weight((4, 4))
    nodes = [node("QuantizeLinear", "x s z", "a"), node("QGemm", "a s z w ws wz b", "y", transB=trans_b)]
    more = {
        "s": F32(0.5),
        "z": U8(0),
        "w": w,
        "ws": np.array([1, 2, 3, 4], F32),
        "wz": np.zeros(4, I8),
        "b": np.zeros(4, I32),
    }
    rows = rows_of(build(nodes, inputs=(TensorProto.FLOAT, ["N", 4]), **more))
    assert list(rows) == ["a", "w", "b"] and rows["w"].axis == axis and rows["b"].scale == (0.5, 1, 1.5, 2)


def test_matmul_integer_has_no_scale() -> None:
    rows = rows_of(
        build(
            [node("MatMulInteger", "x w z wz", "y")],
            inputs=(TensorProto.UINT8, ["N", 4]),
            w=weight((4, 5), 8),
            z=U8(3),
            wz=I8(0),
        )
    )
    assert (
        rows["x"].scale is None
        and rows["x"].zero_point == (3,)
        and rows["w"].kind == "weight"
        and rows["w"].scale is None
    )


def test_a_tensor_read_with_two_grids_has_two_rows() -> None:
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s2 z", "y")]
    assert [(r.name, r.scale) for r in inspect_model(build(nodes, s=F32(1), s2=F32(2), z=U8(0)))] == [
        ("q", (1,)),
        ("q", (2,)),
    ]


def test_a_single_stored_number_is_no_weight() -> None:
    nodes = [node("QuantizeLinear", "x s z", "q"), node("QLinearAdd", "q s z one s z s z", "y")]
    row = rows_of(build(nodes, s=F32(1), z=U8(0), one=np.array([1], U8)))["one"]
    assert (row.kind, row.levels, row.shape) == ("constant", 1, (1,))


def test_a_directory_without_models_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="is no bundle"):
        inspect_path(tmp_path)
