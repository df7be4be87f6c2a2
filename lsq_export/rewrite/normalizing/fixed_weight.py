"""Weights that nobody trained, of layers that operators become: codes and a scale that hold them exactly."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, insert
from lsq_export.graph.read import MARKER, MARKER_DOMAIN, graph_of, maker_of

LARGEST = 127


def fixed_weight(before: ir.Node, name: str, codes: np.ndarray, scale: float | np.ndarray) -> ir.Value:
    """The weight of the layer `name`: codes · scale.

    codes: integers of at most LARGEST, [C_out, …]. scale: one number, or one a channel.
    """
    graph, by_channel = graph_of(before), np.reshape(scale, (-1, *[1] * (codes.ndim - 1)))
    bits = max(2, int(np.abs(codes).max(initial=1)).bit_length() + 1)
    inputs = [
        constant(graph, f"{name}.weight", (codes * by_channel).astype(np.float32)),
        constant(graph, f"{name}.weight.scale", np.asarray(scale, np.float32)),
        constant(graph, f"{name}.weight.offset", np.zeros(np.shape(scale), np.float32)),
    ]
    attributes = {"bits": bits, "qmin": -(2 ** (bits - 1)), "qmax": 2 ** (bits - 1) - 1, "kind": "weight"}
    axis = 0 if np.ndim(scale) else -1
    shape = list(codes.shape)
    value = insert(
        before, MARKER, inputs, f"{name}.weight.fixed", domain=MARKER_DOMAIN, shape=shape, axis=axis, **attributes
    )
    maker_of(value).attributes["quantizer"] = ir.AttrString("quantizer", f"{name}.weight")
    return value
