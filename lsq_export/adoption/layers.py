"""Weights of layers on grids become markers, with the output channels first, as a captured network has them:

    Conv(x, W)                  =>  Conv(x, FakeQuantize(W))
    ConvTranspose(x, W)         =>  ConvTranspose(x, Transpose(FakeQuantize(Wᵀ)))       one group
    Gemm(x, W), transB = 0      =>  Gemm(x, FakeQuantize(Wᵀ)), transB = 1
    MatMul(x, W)                =>  MatMul(x, Transpose(FakeQuantize(Wᵀ)))

A layer whose weight lies on no grid of at most 8 bits, or on one with scales along its inputs, stays float.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, insert
from lsq_export.graph.notes import FLOAT
from lsq_export.graph.read import MARKER, MARKER_DOMAIN, array_of, attribute, maker_of

from .left import Left
from .stored import Stored, found_in_floats, stored_in

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
LEVELS = 256
NO_GRID = "its weight lies on no grid of at most 8 bits"
ALONG_INPUTS = "its weight has scales along its inputs"
TOO_WIDE = "its weight codes reach over more than 8 bits"
GROUPS = "a transposed convolution in groups"


def weight_to_marker(graph: ir.Graph, node: ir.Node) -> Left | None:
    """Put the weight of a layer behind a marker. Returns why a layer stays float, if it does."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in LAYERS:
        return None
    stored, floats = stored_in(node.inputs[1]), array_of(node.inputs[1])
    if stored is None and floats is None:
        return None  # a product of two activations
    turned = _output_channels_first(node, stored, floats)
    if isinstance(turned, str):
        return _keep(graph, node, stored, turned)
    if turned.scale.size > 1 and turned.scale.shape[0] != turned.scale.size:
        return _keep(graph, node, stored, ALONG_INPUTS)
    if not fits_8_bits(turned.codes):
        return _keep(graph, node, stored, TOO_WIDE)
    _place(graph, node, turned)
    return None


def fits_8_bits(codes: np.ndarray) -> bool:
    """Whether the codes of each channel, [C_out, …], and zero are 256 numbers at most, which UINT8 holds."""
    rows = codes.reshape(len(codes), -1)
    spread = rows.max(axis=1, initial=0) - rows.min(axis=1, initial=0)
    return bool(spread.max(initial=0) < LEVELS)


def _output_channels_first(node: ir.Node, stored: Stored | None, floats: np.ndarray | None) -> Stored | str:
    """[C_out, C_in, …], or why not."""
    axes = output_channels_first(node, stored.codes.ndim if stored is not None else floats.ndim)  # type: ignore[union-attr]
    if isinstance(axes, str):
        return axes
    if stored is not None:
        return stored.transposed(axes)
    assert floats is not None
    return found_in_floats(floats.transpose(axes)) or NO_GRID


def output_channels_first(node: ir.Node, rank: int) -> tuple[int, ...] | str:
    """The order of axes that puts the output channels of a layer's weight first, or why there is none."""
    axes = tuple(range(rank))
    if node.op_type == "ConvTranspose":
        return (1, 0, *axes[2:]) if attribute(node, "group", 1) == 1 else GROUPS
    if node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0)):
        return (1, 0) if rank == 2 else NO_GRID
    return axes


def _keep(graph: ir.Graph, node: ir.Node, stored: Stored | None, why: str) -> Left:
    if stored is not None:
        node.replace_input_with(1, constant(graph, f"{node.name}.weight.values", stored.values))
    FLOAT.write(node, why)
    return Left(str(node.name), why)


def _place(graph: ir.Graph, node: ir.Node, weight: Stored) -> None:
    codes = weight.codes
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    bits = min(8, max(2, max(high, -low - 1).bit_length() + 1))
    limits = min(-(2 ** (bits - 1)), low), max(2 ** (bits - 1) - 1, high)
    scale = weight.scale.reshape(-1) if weight.scale.size > 1 else weight.scale.reshape(())
    grid = [
        constant(graph, f"{node.name}.weight.{what}", array)
        for what, array in (("scale", scale), ("offset", np.zeros_like(scale)))
    ]
    put_weight(graph, node, weight.values, grid, bits, axis=0 if scale.ndim else -1, limits=limits)


def weight_on_grid(graph: ir.Graph, node: ir.Node, codes: np.ndarray, scale: np.ndarray | np.float32) -> None:
    """Give a layer the weight codes · scale. codes: output channels first. scale: one, or one for each channel."""
    _place(graph, node, Stored(codes, np.asarray(scale, np.float32)))


def put_weight(
    graph: ir.Graph,
    node: ir.Node,
    values: np.ndarray,
    grid: Sequence[ir.Value],
    bits: int,
    *,
    axis: int,
    limits: tuple[int, int] | None = None,
) -> ir.Node:
    """Put a weight, output channels first, behind a marker in front of its layer; returns the marker.

    grid: scale and offset; nothing for one that is not known yet. axis: 0 with a scale for each channel, else -1.
    limits: the first and the last code, where they are not those of signed bits.
    """
    name = str(node.name)
    limits = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if limits is None else limits
    marked = insert(
        node,
        MARKER,
        [constant(graph, f"{name}.weight", values), *grid],
        f"{name}.weight_on_grid",
        domain=MARKER_DOMAIN,
        shape=values.shape,
        quantizer=f"{name}.weight",
        bits=bits,
        kind="weight",
        axis=axis,
        qmin=limits[0],
        qmax=limits[1],
    )
    marker = maker_of(marked)
    marker.name = f"{name}.weight.{MARKER}"
    if node.op_type == "Gemm":
        node.attributes["transB"] = ir.AttrInt64("transB", 1)
    elif node.op_type in ("MatMul", "ConvTranspose"):
        perm = (1, 0, *range(2, values.ndim))
        shape = [values.shape[axis] for axis in perm]
        marked = insert(node, "Transpose", [marked], f"{name}.weight_turned", shape=shape, perm=perm)
    node.replace_input_with(1, marked)
    return marker
