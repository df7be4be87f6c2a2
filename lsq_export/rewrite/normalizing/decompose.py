"""decompose: operators that are sums, products and clamps of others get that form.

    HardSigmoid(x; α, β)    =>  Clip(Add(Mul(x, α), β), 0, 1)
    HardSwish(x)            =>  Mul(x, HardSigmoid(x; 1/6, 1/2))
    Neg(x)                  =>  Mul(x, -1)
    Div(x, c)               =>  Mul(x, 1/c)                                     (c constant)
    Sub(x, c), Sub(c, x)    =>  Add(x, -c), Add(Mul(x, -1), c)                  (c constant)
    Sub(x, y)               =>  Add(x, Mul(y, -1))
    Pow(x, 2)               =>  Mul(x, x)
    Abs(x)                  =>  LeakyRelu(x; -1)                                (-1 · x where x < 0)
    PRelu(x, c)             =>  LeakyRelu(x; c)                                 (one slope)
    PRelu(x, c)             =>  Add(Relu(x), Mul(Clip(x, , 0), c))              (a slope for each channel)
    Resize(x, size)         =>  Resize(x, scales)                               (fixed sizes of H and W)
    Resize(x, linear)       =>  DepthToSpace(Conv(x, w))                        (whole factors, upsampling.py)
    Pad(x, pads)            =>  Pad(x, pads, 0)

Exact, but for the float32 rounding of 1/c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, insert, replace
from lsq_export.graph.notes import SOURCE
from lsq_export.graph.read import array_of, attribute, graph_of, is_float

from .products import einsum
from .upsampling import to_convolutions


def decompose(node: ir.Node) -> bool:
    """Replace the node, if there is a form for it; returns whether there was."""
    floats = is_float(node.outputs[0])  # integers (places, lengths) have no grid, and stay what they are
    rule = RULES.get(node.op_type) if node.domain == "" and floats else None
    value = rule(node) if rule is not None else None
    made = value.producer() if value is not None else None
    if value is None or made is None:
        return False
    made.name = node.name
    _from_line_of(node, made)
    value.shape, value.type = node.outputs[0].shape, node.outputs[0].type
    replace(node.outputs[0], value)
    return True


def _from_line_of(node: ir.Node, made: ir.Node) -> None:
    """What was made for the node comes from its line of the user's code."""
    if SOURCE.on(node) and not SOURCE.on(made):
        SOURCE.write(made, SOURCE.read(node))
        for maker in made.predecessors():
            if maker not in node.predecessors():
                _from_line_of(node, maker)


def _with(
    node: ir.Node, op_type: str, x: ir.Value | None, *numbers: float | np.ndarray, step: str = "", **attributes: Any
) -> ir.Value:
    """op_type(x, constants), before the node and of its shape."""
    graph, name = node.graph, f"{node.outputs[0].name}_{step or op_type.lower()}"
    assert isinstance(graph, ir.Graph)
    constants = [
        constant(graph, f"{name}.{index}", np.asarray(number, np.float32)) for index, number in enumerate(numbers)
    ]
    return insert(node, op_type, [x, *constants], name, shape=x.shape if x is not None else None, **attributes)


def _hard_sigmoid(node: ir.Node, alpha: float | None = None, beta: float | None = None) -> ir.Value:
    a = attribute(node, "alpha", 0.2) if alpha is None else alpha
    b = attribute(node, "beta", 0.5) if beta is None else beta
    return _with(
        node,
        "Clip",
        _with(node, "Add", _with(node, "Mul", node.inputs[0], a, step="slope"), b, step="shifted"),
        0.0,
        1.0,
    )


def _hard_swish(node: ir.Node) -> ir.Value:
    return insert(node, "Mul", [node.inputs[0], _hard_sigmoid(node, 1 / 6, 0.5)], f"{node.outputs[0].name}_product")


def _sub(node: ir.Node) -> ir.Value | None:
    x, y = node.inputs
    number = array_of(y)
    assert x is not None and y is not None
    if number is not None:
        return _with(node, "Add", x, -number)
    return insert(node, "Add", [x, _with(node, "Mul", y, -1.0, step="negative")], f"{node.outputs[0].name}_sum")


def _div(node: ir.Node) -> ir.Value | None:
    number = array_of(node.inputs[1])
    if number is None or not number.all():
        return None
    return _with(node, "Mul", node.inputs[0], 1 / number.astype(np.float64))


def _pow(node: ir.Node) -> ir.Value | None:
    exponent = array_of(node.inputs[1])
    if exponent is None or exponent.size != 1 or exponent.item() != 2:
        return None
    return insert(node, "Mul", [node.inputs[0], node.inputs[0]], f"{node.outputs[0].name}_square")


def _prelu(node: ir.Node) -> ir.Value | None:
    slope, x = array_of(node.inputs[1]), node.inputs[0]
    if slope is None:
        return None
    if (slope != slope.reshape(-1)[0]).any():
        zero = constant(graph_of(node), f"{node.outputs[0].name}_zero", np.float32(0))
        shape = x.shape if x is not None else None
        below = insert(node, "Clip", [x, None, zero], f"{node.outputs[0].name}_below", shape=shape)
        sloped = _with(node, "Mul", below, slope, step="sloped")
        return insert(node, "Add", [_with(node, "Relu", x), sloped], f"{node.outputs[0].name}_sum")
    return _with(node, "LeakyRelu", node.inputs[0], alpha=float(slope.reshape(-1)[0]))


def _pad(node: ir.Node) -> ir.Value | None:
    """One form: pads of all axes, a value. Negative pads crop, which only a constant Pad does."""
    mode, pads, x = attribute(node, "mode", "constant"), array_of(node.inputs[1]), node.inputs[0]
    value = array_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.float32(0)
    axes = array_of(node.inputs[3]) if len(node.inputs) > 3 else None
    rank = len(x.shape) if x is not None and x.shape is not None else 0
    if mode not in ("constant", "reflect", "edge") or pads is None or value is None or not rank:
        return None
    computed_axes = len(node.inputs) > 3 and node.inputs[3] is not None and axes is None
    if computed_axes or (mode != "constant" and (pads < 0).any()):
        return None
    if axes is None and len(node.inputs) == (3 if mode == "constant" else 2):
        return None
    full = np.zeros((2, rank), np.int64)
    full[:, np.arange(rank) if axes is None else axes] = pads.reshape(2, -1)
    graph, name = node.graph, str(node.outputs[0].name)
    assert isinstance(graph, ir.Graph)
    inputs: list[ir.Value | None] = [x, constant(graph, f"{name}.pads", full.reshape(-1))]
    if mode == "constant":
        inputs.append(constant(graph, f"{name}.value", np.asarray(value, np.float32).reshape(())))
    return insert(node, "Pad", inputs, f"{name}_pad", mode=mode)


def _resize(node: ir.Node) -> ir.Value | None:
    """Convolutions, or the attributes of opset 13, and scales of which float32 makes the sizes."""
    interpolated = to_convolutions(node)
    if interpolated is not None:
        return interpolated
    x = node.inputs[0]
    mode, coordinates = (
        attribute(node, "mode", "nearest"),
        attribute(node, "coordinate_transformation_mode", "half_pixel"),
    )
    rounding = attribute(node, "nearest_mode", "round_prefer_floor")
    if (mode, coordinates, rounding) != ("nearest", "asymmetric", "floor"):
        return None
    given = array_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if given is None or not given.size:
        old, new = _fixed_sizes(x), _fixed_sizes(node.outputs[0])
        if old is None or new is None:
            return None
        given = _scales(old, new)
    graph, name = node.graph, str(node.outputs[0].name)
    assert isinstance(graph, ir.Graph)
    scales = constant(graph, f"{name}.scales", given.astype(np.float32))
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    return insert(node, "Resize", [x, None, scales], f"{name}_resize", **attributes)


def _fixed_sizes(value: ir.Value | None) -> list[int] | None:
    """H and W of images [N, C, H, W] whose C, H and W are fixed."""
    shape = value.shape if value is not None else None
    sizes = [size for size in shape[1:] if isinstance(size, int)] if shape is not None and len(shape) == 4 else []
    return sizes[1:] if len(sizes) == 3 else None


def _scales(old: list[int], new: list[int]) -> np.ndarray:
    """float32 [4] of which multiplication makes the new sizes of the old ones, in float32 and in float64 alike: kernels
    and inference of shapes take the one or the other.
    """
    scales = np.array([1, 1, *(np.float32(n) / np.float32(o) for o, n in zip(old, new, strict=True))], np.float32)
    for index, (o, n) in enumerate(zip(old, new, strict=True), 2):
        if float(scales[index]) * o < n:
            scales[index] = np.nextafter(scales[index], np.float32(np.inf))
    return scales


RULES: dict[str, Callable[[ir.Node], ir.Value | None]] = {
    "Abs": lambda node: _with(node, "LeakyRelu", node.inputs[0], alpha=-1.0),
    "Div": _div,
    "Einsum": einsum,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Neg": lambda node: _with(node, "Mul", node.inputs[0], -1.0),
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": _pow,
    "Resize": _resize,
    "Sub": _sub,
}
