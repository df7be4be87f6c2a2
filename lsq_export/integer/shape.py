"""Operators that move, select or compare codes without arithmetic on values: y[i] = x[j] for some j.

onnx's ReferenceEvaluator runs most of them, exactly.
"""

from __future__ import annotations

import numpy as np
from onnx.reference import ReferenceEvaluator

from .node import Array, Inputs, Node, operator, required

MOVES = (
    *("Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Reshape"),
    *("Shape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
PAD_MODES = ("constant", "reflect", "edge")


@operator(*MOVES)
def move(node: Node, x: Inputs) -> list[Array]:
    """Any type: elements are moved, not changed."""
    feeds = {name: value for name, value in zip(node.inputs, x, strict=True) if name}
    evaluator = ReferenceEvaluator(node.proto, opsets={"": node.opset})
    return [np.ascontiguousarray(y) if y.ndim else y for y in map(np.asarray, evaluator.run(None, feeds))]


@operator("Resize")
def resize(node: Node, x: Inputs) -> list[Array]:
    """Mode nearest with scales, as torch has it: along each axis, output i reads input floor(i / scale), in float32."""
    values, scales = required(node, x, 0), required(node, x, 2)
    names = ("mode", "coordinate_transformation_mode", "nearest_mode")
    how = tuple(node.attributes.get(name, b"").decode() for name in names)
    if how != ("nearest", "asymmetric", "floor"):
        raise node.error(f"Resize by {', '.join(how)} is not supported")
    for axis, scale in enumerate(scales):
        places = np.arange(int(np.float32(values.shape[axis]) * scale), dtype=np.float32)
        values = values.take(np.floor(places / scale).clip(0, values.shape[axis] - 1).astype(np.int64), axis=axis)
    return [np.ascontiguousarray(values)]


@operator("Pad")
def pad(node: Node, x: Inputs) -> list[Array]:
    """Codes around a tensor; a negative count takes as many away (mode constant)."""
    values, counts = required(node, x, 0), required(node, x, 1).reshape(2, -1).T
    mode = node.attributes.get("mode", b"constant").decode()
    takes_away = counts.min(initial=0) < 0
    if mode not in PAD_MODES or len(counts) != values.ndim or (takes_away and mode != "constant"):
        raise node.error(f"a Pad of mode {mode} by {counts.tolist()} is not supported")
    inside = values[tuple(slice(max(0, -a), n - max(0, -b)) for (a, b), n in zip(counts, values.shape, strict=True))]
    value = {"constant_values": required(node, x, 2)} if mode == "constant" else {}
    return [np.pad(inside, counts.clip(0, None), mode, **value)]


@operator("Clip", "Max", "Min")
def compare(node: Node, x: Inputs) -> list[Array]:
    """On integers: floats are arithmetic of the float graph."""
    values = required(node, x, 0)
    if not np.issubdtype(values.dtype, np.integer):
        raise _float_error(node, values)
    return move(node, x)


@operator("Add", "Mul", "Sub")
def integer_arithmetic(node: Node, x: Inputs) -> list[Array]:
    """On int32 and int64 only: on shapes and accumulators."""
    a, b = required(node, x, 0), required(node, x, 1)
    if a.dtype not in (np.int32, np.int64):
        raise _float_error(node, a)
    exact = {"Add": np.add, "Mul": np.multiply, "Sub": np.subtract}[node.op](a.astype(np.int64), b.astype(np.int64))
    info = np.iinfo(a.dtype)
    if exact.size and (exact.max() > info.max or exact.min() < info.min):
        raise node.error(f"its result reaches {exact.min()} … {exact.max()}, which does not fit {a.dtype}")
    return [np.asarray(exact).clip(info.min, info.max).astype(a.dtype)]


def _float_error(node: Node, values: Array) -> Exception:
    return node.error(
        f"{values.dtype} arithmetic on {node.inputs[0]} has no place in an integer graph; quantize its inputs and "
        "output"
    )
