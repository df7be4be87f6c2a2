"""Small quantized ONNX files, written node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lsq_export.inspection.tensors import QuantizedTensor, inspect_model

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
