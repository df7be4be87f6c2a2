"""upsampling: linear interpolation by whole factors is a depthwise convolution to the phases of the result.

    Resize(x, linear, factors r)  =>  DepthToSpace(Conv(Pad(x, edge), w [r²·C, 1, 3, 3]))       (in_turn.py)

The weights of r = 2 are 1, 3 and 9 sixteenths: integers and one scale, so the convolution is exact. Where products
of them do not fit (r = 8 and beyond), columns come after rows, with a grid between them. With align_corners, the factor
is that of the steps, (outputs - 1) / (inputs - 1), and must be whole. Part of the pass normalize.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm, prod

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, insert
from lsq_export.graph.in_turn import cut, in_turn
from lsq_export.graph.read import array_of, attribute, graph_of, maker_of

from .fixed_weight import LARGEST, fixed_weight

HALF_PIXEL, CORNERS, ASYMMETRIC = ("half_pixel", "pytorch_half_pixel"), "align_corners", "asymmetric"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis. numerators: [factor, taps] integers, to be divided by the denominator; taps begin at `first`.

    beyond: outputs that are too many.
    """

    factor: int
    numerators: np.ndarray
    denominator: int
    first: int
    beyond: int = 0

    @property
    def pads(self) -> tuple[int, int]:
        """Elements that repeat the first, and the last."""
        return -self.first, self.numerators.shape[1] - 1 + self.first


def axis_of(factor: int, *, half: bool, beyond: int = 0) -> Axis:
    """half: outputs are at the middle of their parts; otherwise the first one is at the first input."""
    shift = Fraction(1, 2) if half else Fraction(0)
    places = [(Fraction(f) + shift) / factor - shift for f in range(factor)]
    lowest = [place.numerator // place.denominator for place in places]
    first, taps = min(lowest), max(lowest) - min(lowest) + (2 if factor > 1 else 1)
    denominator = lcm(*(place.denominator for place in places))
    numerators = np.zeros((factor, taps), np.int64)
    for f, (place, low) in enumerate(zip(places, lowest, strict=True)):
        right = int((place - low) * denominator)
        numerators[f, low - first] = denominator - right
        if right:
            numerators[f, low - first + 1] = right
    return Axis(factor=factor, numerators=numerators, denominator=denominator, first=first, beyond=beyond)


def to_convolutions(node: ir.Node) -> ir.Value | None:
    """What takes the place of a Resize; None where it is no such interpolation."""
    x, axes = node.inputs[0], _axes(node)
    if x is None or axes is None or max(int(axis.numerators.max()) for axis in axes) > LARGEST:
        return None
    together = prod(int(axis.numerators.max()) for axis in axes) <= LARGEST
    ones = [axis_of(1, half=True)] * len(axes)
    steps = [axes] if together else [[*ones[:i], axis, *ones[i + 1 :]] for i, axis in enumerate(axes)]
    y: ir.Value | None = x
    for number, step in enumerate(steps):
        if y is not None and any(axis.factor > 1 for axis in step):
            y = _interpolated(node, y, step, f"{node.name}" if together else f"{node.name}.{number}")
    return y if y is not x else None


def _axes(node: ir.Node) -> list[Axis] | None:
    """Of height and width."""
    x, y = node.inputs[0], node.outputs[0]
    how = attribute(node, "coordinate_transformation_mode", "half_pixel")
    plain = attribute(node, "mode", "nearest") == "linear" and not attribute(node, "antialias", 0)
    if not plain or x is None or x.shape is None or len(x.shape) != 4 or not isinstance(x.shape[1], int):
        return None
    given = array_of(node.inputs[2]) if len(node.inputs) > 2 else None
    known = zip(x.shape[2:], y.shape[2:] if y.shape is not None else (), strict=False)
    sizes = [(a, b) for a, b in known if isinstance(a, int) and isinstance(b, int)]
    if len(sizes) == 2 and how == CORNERS:
        return _of_corners(sizes)
    if len(sizes) == 2:
        factors = [Fraction(b, a) for a, b in sizes]
    elif given is not None and given.size == 4:
        factors = [Fraction(float(scale)) for scale in given[2:]]
    else:
        return None
    if (how not in HALF_PIXEL and how != ASYMMETRIC) or any(f.denominator > 1 for f in factors):
        return None
    return [axis_of(int(f), half=how in HALF_PIXEL) for f in factors]


def _of_corners(sizes: list[tuple[int, int]]) -> list[Axis] | None:
    axes = []
    for size, wanted in sizes:
        factor = Fraction(wanted - 1, size - 1) if size > 1 else Fraction(1 if wanted == 1 else 0)
        if factor.denominator > 1 or factor < 1:
            return None
        axes.append(axis_of(int(factor), half=False, beyond=int(factor) - 1))
    return axes


def _interpolated(node: ir.Node, x: ir.Value, axes: list[Axis], name: str) -> ir.Value | None:
    assert x.shape is not None
    channels, graph = int(x.shape[1]), graph_of(node)  # type: ignore[arg-type]
    pads = [axis.pads for axis in axes]
    counts = [0, 0, *(before for before, _ in pads), 0, 0, *(after for _, after in pads)]
    shape = [
        *x.shape[:2],
        *(s + sum(p) if isinstance(s, int) else None for s, p in zip(x.shape[2:], pads, strict=True)),
    ]
    padded = insert(node, "Pad", [x, constant(graph, f"{name}.pads", np.array(counts))], f"{name}_edges", shape=shape)
    maker_of(padded).attributes["mode"] = ir.AttrString("mode", "edge")
    rows, columns = (axis.numerators for axis in axes)
    phases = len(rows) * len(columns)
    codes = np.einsum("ah,bw->abhw", rows, columns).reshape(phases, 1, rows.shape[1], columns.shape[1])
    weight = fixed_weight(node, name, np.tile(codes, (channels, 1, 1, 1)), 1 / prod(a.denominator for a in axes))
    value = insert(
        node,
        "Conv",
        [padded, weight],
        f"{name}_phases",
        shape=[x.shape[0], channels * phases, *x.shape[2:]],
        group=channels,
        kernel_shape=list(codes.shape[2:]),
        strides=[1, 1],
        dilations=[1, 1],
        pads=[0, 0, 0, 0],
    )
    maker_of(value).name = name
    turned = in_turn(node, value, [axis.factor for axis in axes])
    return None if turned is None else cut(node, turned, [axis.beyond for axis in axes])
