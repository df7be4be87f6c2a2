"""Weights of layers on grids become markers, with the output channels first, as a captured network has them:

    Conv(x, W)                  =>  Conv(x, FakeQuantize(W))
    ConvTranspose(x, W)         =>  ConvTranspose(x, Transpose(FakeQuantize(Wᵀ)))       one group
    Gemm(x, W), transB = 0      =>  Gemm(x, FakeQuantize(Wᵀ)), transB = 1
    MatMul(x, W)                =>  MatMul(x, Transpose(FakeQuantize(Wᵀ)))

A layer whose weight lies on no grid of at most 8 bits, or on one with scales along its inputs, stays float.
"""

from __future__ import annotations

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
    rank = stored.codes.ndim if stored is not None else floats.ndim  # type: ignore[union-attr]
    axes = tuple(range(rank))
    if node.op_type == "ConvTranspose":
        if attribute(node, "group", 1) != 1:
            return GROUPS
        axes = (1, 0, *axes[2:])
    elif node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0)):
        if rank != 2:
            return NO_GRID
        axes = (1, 0)
    if stored is not None:
        return stored.transposed(axes)
    assert floats is not None
    return found_in_floats(floats.transpose(axes)) or NO_GRID


def _keep(graph: ir.Graph, node: ir.Node, stored: Stored | None, why: str) -> Left:
    if stored is not None:
        node.replace_input_with(1, constant(graph, f"{node.name}.weight.values", stored.values))
    FLOAT.write(node, why)
    return Left(str(node.name), why)


def _place(graph: ir.Graph, node: ir.Node, weight: Stored) -> None:
    name, codes = str(node.name), weight.codes
    bits = max(2, int(max(codes.max(initial=0), -codes.min(initial=0) - 1)).bit_length() + 1)
    scale = weight.scale.reshape(-1) if weight.scale.size > 1 else weight.scale.reshape(())
    inputs = [
        constant(graph, f"{name}.weight", weight.values),
        constant(graph, f"{name}.weight.scale", scale),
        constant(graph, f"{name}.weight.offset", np.zeros_like(scale)),
    ]
    limits = {"qmin": -(2 ** (bits - 1)), "qmax": 2 ** (bits - 1) - 1}
    marked = insert(
        node,
        MARKER,
        inputs,
        f"{name}.weight_on_grid",
        domain=MARKER_DOMAIN,
        shape=codes.shape,
        quantizer=f"{name}.weight",
        bits=bits,
        kind="weight",
        axis=0 if scale.ndim else -1,
        **limits,
    )
    maker_of(marked).name = f"{name}.weight.{MARKER}"
    if node.op_type == "Gemm":
        node.attributes["transB"] = ir.AttrInt64("transB", 1)
    elif node.op_type in ("MatMul", "ConvTranspose"):
        perm = (1, 0, *range(2, codes.ndim))
        shape = [codes.shape[axis] for axis in perm]
        marked = insert(node, "Transpose", [marked], f"{name}.weight_turned", shape=shape, perm=perm)
    node.replace_input_with(1, marked)
