"""equalize: the depthwise 1×1 convolutions that equalize the steps of merged convolutions go into the layer before
them.

    Conv(x, w) -> [Relu] -> depthwise 1×1 of r_c   =>  Conv(x, w·r_c) -> [Relu]        (where nobody else reads it)

A Relu goes into the codes of the grid after it (E10) if it clamps them to the same range in every channel; otherwise it
gets a grid of its own.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import narrow
from calib.grid import Grid
from lsq_export.graph.edit import clean, replace
from lsq_export.graph.grids import offsets_of, quantizer_of, scale_of
from lsq_export.graph.layers import bias_of, set_bias, set_weight, weight_codes
from lsq_export.graph.notes import EQUALIZES
from lsq_export.graph.operators import LAYERS
from lsq_export.graph.read import attribute, is_op, sole_producer
from lsq_export.rewrite.contract.conditions import NO_BATCH_NORMS
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless


def absorb_equalizers(model: ir.Model) -> None:
    """After batch norms were folded: step ratios go into the layer before, and a Relu between them into the codes."""
    for node in list(model.graph):
        if is_op(node, "Conv") and EQUALIZES.on(node):
            _absorb(model.graph, node)
    clean(model)


def _absorb(graph: ir.Graph, equalizer: ir.Node) -> None:
    (marker,) = equalizer.outputs[0].consumers()
    clamp = sole_producer(equalizer.inputs[0], "Relu")
    layer = sole_producer(clamp.inputs[0] if clamp is not None else equalizer.inputs[0], *LAYERS)
    if layer is None:
        return
    if clamp is not None:
        lowest = _lowest_codes_above_zero(marker)
        if len(lowest) > 1:
            return  # no one range of codes: the Relu gets a grid of its own
        marker.attributes["qmin"] = ir.AttrInt64("qmin", lowest.pop())
    codes, scale = weight_codes(layer)
    _, ratios = weight_codes(equalizer)
    bias = bias_of(layer) * ratios + bias_of(equalizer)
    set_weight(layer, graph, codes, scale * ratios)
    set_bias(layer, graph, bias)
    replace(equalizer.outputs[0], layer.outputs[0])


def _lowest_codes_above_zero(marker: ir.Node) -> set[int]:
    """code(0) of E10, of the channels of a merged marker."""
    name, scale, (qmin, qmax) = quantizer_of(marker), scale_of(marker), (attribute(marker, k) for k in ("qmin", "qmax"))
    grids = [Grid(scale, float(offset), qmin, qmax) for offset in np.unique(offsets_of(marker))]
    try:
        return {narrow(grid, 0.0, np.inf).qmin for grid in grids}
    except QuantizationError as error:
        raise QuantizationError(f"{name}: {error}") from error


PASS = Pass("equalize", stateless(absorb_equalizers), Keeps.ROUNDED, requires=(NO_BATCH_NORMS,))
