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
LARGEST = 127
NO_GRID = "its weight lies on no grid of at most 8 bits"
ALONG_INPUTS = "its weight has scales along its inputs"
TOO_WIDE = "its weight codes less their zero point do not fit int8"
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
    if np.abs(turned.codes).max(initial=0) > LARGEST + (turned.codes.min(initial=0) == -LARGEST - 1):
        return _keep(graph, node, stored, TOO_WIDE)
    _place(graph, node, turned)
    return None


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
    bits = max(2, int(max(codes.max(initial=0), -codes.min(initial=0) - 1)).bit_length() + 1)
    scale = weight.scale.reshape(-1) if weight.scale.size > 1 else weight.scale.reshape(())
    grid = [
        constant(graph, f"{node.name}.weight.{what}", array)
        for what, array in (("scale", scale), ("offset", np.zeros_like(scale)))
    ]
    put_weight(graph, node, weight.values, grid, bits, axis=0 if scale.ndim else -1)


def put_weight(
    graph: ir.Graph, node: ir.Node, values: np.ndarray, grid: Sequence[ir.Value], bits: int, *, axis: int
) -> ir.Node:
    """Put a weight, output channels first, behind a marker in front of its layer; returns the marker.

    grid: scale and offset; nothing for one that is not known yet. axis: 0 with a scale for each channel, else -1.
    """
    name = str(node.name)
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
        qmin=-(2 ** (bits - 1)),
        qmax=2 ** (bits - 1) - 1,
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
