"""equalize: the depthwise 1×1 convolutions that equalize the steps of merged convolutions (mixed.py) go into the layer
in front.

    Conv(x, w) -> [Relu] -> depthwise 1×1 of r_c   =>  Conv(x, w·r_c) -> [Relu]        (where nobody else reads it)

A Relu goes into the codes of the grid behind it (E10) if it clamps them to the same range in every channel; else it
gets a grid of its own."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import narrow
from calib.grid import Grid
from lsq_export.graph.build import attribute, clean, constant_of, is_op, replace, sole_producer
from lsq_export.rewrite.normalizing.normalize import LINEAR

from .weights import bias_of, set_bias, set_weight, weight_codes

SCALING = "scaling"  # metadata of such a convolution


def absorb_scalings(model: ir.Model) -> None:
    """Behind the batch norms' folding:

    step ratios go into the layer in front, and a Relu between them into the codes (E10).
    """
    graph = model.graph
    for node in list(graph):
        if is_op(node, "Conv") and SCALING in node.metadata_props:
            _absorb(graph, node)
    clean(model)


def _absorb(graph: ir.Graph, scaling: ir.Node) -> None:
    (marker,) = scaling.outputs[0].consumers()
    clamp = sole_producer(scaling.inputs[0], "Relu")
    linear = sole_producer(clamp.inputs[0] if clamp is not None else scaling.inputs[0], *LINEAR)
    if linear is None:
        return
    if clamp is not None:
        name, scale = (
            attribute(marker, "quantizer"),
            float(constant_of(marker.inputs[1], attribute(marker, "quantizer"))),
        )
        try:
            clamped = [
                narrow(Grid(scale, float(b), attribute(marker, "qmin"), attribute(marker, "qmax")), 0.0, np.inf)
                for b in np.unique(offsets_of(marker))
            ]
        except QuantizationError as error:
            raise QuantizationError(f"{name}: {error}") from error
        if len({g.qmin for g in clamped}) > 1:
            return  # no one range of codes: the Relu gets a grid of its own
        marker.attributes["qmin"] = ir.AttrInt64("qmin", clamped[0].qmin)
    codes, scale_of = weight_codes(linear)
    _, ratios = weight_codes(scaling)
    bias = bias_of(linear) * ratios + bias_of(scaling)
    set_weight(linear, graph, codes, scale_of * ratios)
    set_bias(linear, graph, bias)
    replace(scaling.outputs[0], linear.outputs[0])


def offsets_of(marker: ir.Node) -> np.ndarray:
    """β along the channels, float64 [C], of a merged marker."""
    return constant_of(marker.inputs[2], attribute(marker, "quantizer")).astype(np.float64)
