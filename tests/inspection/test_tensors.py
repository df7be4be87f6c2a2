"""inspect: every operator that carries grids, and how many codes a tensor really uses."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calib.errors import QuantizationError
from lsq_export import integer
from lsq_export.inspection.codes import container_range, used_codes
from lsq_export.inspection.tensors import QuantizedTensor, inspect_model, inspect_path
from support.commands import invoke

F32, U8, I8, I32 = np.float32, np.uint8, np.int8, np.int32


def build(
    nodes: list[onnx.NodeProto],
    opset: int = 17,
    inputs: tuple[Any, ...] = (TensorProto.FLOAT, ["N", 3, 8, 8]),
    **constants: Any,
) -> onnx.ModelProto:
    """A model of these nodes: input x, the last output, and constants by name (arrays, or finished tensors)."""
    initializers = [
        c if isinstance(c, onnx.TensorProto) else numpy_helper.from_array(np.asarray(c), name)
        for name, c in constants.items()
    ]
    output = helper.make_empty_tensor_value_info(nodes[-1].output[0])
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", *inputs)], [output], initializers)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)], ir_version=10
    )


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    """inputs: names between blanks, "-" for one left out. QLinear operators but for QLinearConv are Microsoft's."""
    microsoft = op in ("QGemm",) or (op.startswith("QLinear") and op not in ("QLinearConv", "QLinearMatMul"))
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, [output], domain="com.microsoft" if microsoft else "", **attributes)


def rows_of(model: onnx.ModelProto) -> dict[str, QuantizedTensor]:
    rows = inspect_model(model)
    assert len({r.name for r in rows}) == len(rows)
    return {r.name: r for r in rows}


def weight(shape: tuple[int, ...] = (4, 3, 3, 3), bits: int = 4, gain: int = 1) -> np.ndarray:
    """int8 codes in every channel from the smallest to the largest."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    codes = np.random.default_rng(0).integers(low, high, shape, endpoint=True)
    codes.reshape(shape[0], -1)[:, :2] = low, high
    return (codes * gain).astype(I8)


def qlinear_conv(w: np.ndarray, w_scale: Any, **more: Any) -> onnx.ModelProto:
    nodes = [node("QuantizeLinear", "x s z", "q"), node("QLinearConv", "q s z w ws wz ys yz b", "y", pads=[1, 1, 1, 1])]
    return build(
        nodes,
        s=F32(0.5),
        z=U8(128),
        w=w,
        ws=w_scale,
        wz=np.zeros_like(w_scale, I8),
        ys=F32(0.25),
        yz=U8(7),
        b=np.arange(4, dtype=I32),
        **more,
    )


def test_qlinear_conv_per_tensor() -> None:
    rows = rows_of(qlinear_conv(weight(gain=8), F32(0.125)))
    assert list(rows) == ["q", "w", "b", "y"]
    assert rows["q"] == QuantizedTensor("q", "activation", "UINT8", 8, 256, None, (0.5,), (128,), None, ("N", 3, 8, 8))
    assert rows["w"] == QuantizedTensor("w", "weight", "INT8", 4, 16, 8, (0.125,), (0,), None, (4, 3, 3, 3))
    assert rows["y"] == QuantizedTensor("y", "activation", "UINT8", 8, 256, None, (0.25,), (7,), None, ("N", 4, 8, 8))
    assert rows["b"] == QuantizedTensor("b", "bias", "INT32", 32, None, None, (0.0625,), (0,), None, (4,))


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


# E5: k = 17, o = 255 - 17 * 15 = 0 at 4 bits; k = 80, o = 15 at 2 bits
@pytest.mark.parametrize(("bits", "k"), [(4, 17), (4, 11), (2, 80), (3, 36)])
def test_strided_codes_are_counted(bits: int, k: int) -> None:
    """QLinearAdd of the code of zero, a look-up by QLinearLeakyRelu, DequantizeLinear -> QuantizeLinear:

    2^bits codes; max pooling keeps them.
    """
    o = 255 - k * (2**bits - 1)
    grids = {"s": F32(0.3), "z": U8(0), "s2": F32(F32(0.3) / k), "z2": U8(o)}
    first = node("QuantizeLinear", "x s z", "q")
    leaky = rows_of(build([first, node("QLinearLeakyRelu", "q s z s2 z2", "c", alpha=1.0)], **grids))
    added = rows_of(build([first, node("QLinearAdd", "q s z z s z s2 z2", "c")], **grids))
    assert "z" not in added
    pair = [first, node("DequantizeLinear", "q s z", "f"), node("QuantizeLinear", "f s2 z2", "c")]
    pooled = [*pair, node("MaxPool", "c", "p", kernel_shape=[2, 2]), node("DequantizeLinear", "p s2 z2", "y")]
    rows = rows_of(build(pooled, **grids))
    for row in (leaky["c"], added["c"], rows["c"], rows["p"]):
        assert (row.type, row.bits, row.levels) == ("UINT8", bits, 2**bits)
    assert leaky["q"].levels == 256


def test_a_single_stored_number_is_no_weight() -> None:
    nodes = [node("QuantizeLinear", "x s z", "q"), node("QLinearAdd", "q s z one s z s z", "y")]
    row = rows_of(build(nodes, s=F32(1), z=U8(0), one=np.array([1], U8)))["one"]
    assert (row.kind, row.levels, row.shape) == ("constant", 1, (1,))


def test_clipped_codes_are_counted() -> None:
    nodes = [node("QuantizeLinear", "x s z", "q"), node("Clip", "q z top", "c"), node("DequantizeLinear", "c s z", "y")]
    rows = rows_of(build(nodes, s=F32(1), z=U8(0), top=U8(15)))
    assert [(r.name, r.bits, r.levels) for r in rows.values()] == [("q", 8, 256), ("c", 4, 16)]


def test_functions_of_one_tensor_are_counted_code_by_code_and_products_pair_by_pair() -> None:
    """Against the integer reference on every code, and on every pair of codes."""
    silu = [
        node("QuantizeLinear", "x s z", "q"),
        node("QLinearSigmoid", "q s z gs gz", "gate"),
        node("QLinearMul", "q s z gate gs gz ys yz", "y"),
    ]
    more = [
        node("Transpose", "q", "other", perm=[0, 1, 3, 2]),  # the same codes at other places
        node("QLinearMul", "q s z other s z ps pz", "p"),
        node("QLinearGlobalAveragePool", "y ys yz ms mz", "mean"),
    ]
    grids = {"s": F32(0.05), "z": U8(128), "gs": F32(1 / 255), "gz": U8(0), "ys": F32(0.28), "yz": U8(255 - 14)}
    grids |= {"ps": F32(4.0), "pz": U8(40), "ms": F32(0.5), "mz": U8(3)}
    rows = rows_of(build([*silu, *more], inputs=(TensorProto.FLOAT, [1, 1, 256, 256]), **grids))
    model = build(silu, **grids)
    every = (np.arange(256) - 128).astype(F32) * F32(0.05)
    found = integer.run(model, {"x": every.reshape(1, 1, 16, 16)})
    assert (
        rows["y"].levels == len(np.unique(found["y"])) == 16
        and rows["y"].bits == 4
        and rows["gate"].levels == len(np.unique(found["gate"]))
    )
    pairs = np.rint(F32(0.05) * F32(0.05) / F32(4.0) * np.outer(np.arange(256) - 128.0, np.arange(256) - 128.0)) + 40
    assert rows["other"].levels == 256 and rows["p"].levels == len(np.unique(pairs.clip(0, 255)))
    low, high = (np.rint(0.28 * (int(y) - 241) / 0.5) + 3 for y in (found["y"].min(), found["y"].max()))
    assert rows["mean"].levels == high - low + 1


def test_used_codes() -> None:
    """(levels, bits, gain). A channel whose sign is flipped reaches from -7 to 8: still 16 codes of one channel."""
    w = np.array([[-8, 7, 0], [8, -7, 1]])
    assert used_codes(w, None, 0) == (6, 4, 1)
    assert used_codes(w * 8, None, 0) == (6, 4, 8)
    assert used_codes(w + 128, np.array(128), None) == (6, 4, 1)
    assert used_codes(np.array([[-1, 0, 1]]), None, None) == (3, 2, 1)
    assert used_codes(np.zeros((2, 3), int), None, 0) == (1, 1, 1)
    assert used_codes(np.array([[-2, 1], [-6, 3]]), None, 0) == (4, 2, 1)  # gains 1 and 3
    assert used_codes(np.array([], int).reshape(0, 3), None, 0) == (0, 1, 1)


def test_container_range() -> None:
    assert [container_range(c) for c in ("UINT8", "INT8", "UINT4", "INT2")] == [(0, 255), (-128, 127), (0, 15), (-2, 1)]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    for name in ("qdq", "qoperator"):
        (tmp_path / name).mkdir()
        onnx.save(qlinear_conv(weight(gain=8), np.array([1, 2, 4, 8], F32)), tmp_path / name / "model.onnx")
    return tmp_path


inspect = partial(invoke, "inspect")


def test_command(bundle: Path) -> None:
    result = inspect(str(bundle))
    assert result.exit_code == 0, result.output
    assert result.stdout.count("4 quantized tensors") == 2 and str(
        bundle / "qdq" / "model.onnx"
    ) in result.stdout.replace("\n", "")
    assert "1 … 8 (4)" in result.stdout and "0 (4)" in result.stdout and "4 × 3 × 3 × 3" in result.stdout
    shown = json.loads(inspect(str(bundle / "qdq" / "model.onnx"), "--json").stdout)
    assert shown[0]["tensors"][1]["scale"] == [1, 2, 4, 8] and shown[0]["tensors"][1]["gain"] == 8


def test_a_float_model_has_no_rows(tmp_path: Path) -> None:
    onnx.save(build([node("Relu", "x", "y")]), tmp_path / "f.onnx")
    assert inspect_path(tmp_path / "f.onnx")[0][1] == []
    assert "0 quantized tensors" in inspect(str(tmp_path / "f.onnx")).stdout


@pytest.mark.parametrize("content", [b"", b"junk junk junk", b"\x08\x07"])
def test_damaged_files_are_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    with pytest.raises(QuantizationError, match=r"model\.onnx cannot be read as ONNX"):
        inspect_path(file)
    result = inspect(str(file))
    assert result.exit_code == 2 and result.stderr.count("\n") == 1


def test_truncated_file_is_named(bundle: Path) -> None:
    file = bundle / "qdq" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(QuantizationError, match="cannot be read as ONNX"):
        inspect_path(file)


def test_a_directory_without_models_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="is no bundle"):
        inspect_path(tmp_path)
