"""float_clips: low-bit codes are limited as values before they are rounded, for receivers that misread a Clip on codes.

    Clip(QuantizeLinear(x; S, Z), n, p)  =>  QuantizeLinear(Clip(x, (n - Z)·S, (p - Z)·S); S, Z)

Exact: rounding never decreases, so all values up to the lower bound get one code, and the bound's own quotient is n - Z
but for 2^-23 of it, which rounds to n - Z; so for p. Never for ONNX Runtime, whose default optimization merges the pair
with one that follows it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from lsq_export.graph.edit import clean, constant, insert, replace
from lsq_export.graph.read import constant_of, is_op, sole_producer


def float_clips(model: ir.Model) -> None:
    """In a QDQ graph. Errors (QuantizationError): a Clip on codes that no QuantizeLinear before it makes."""
    graph = model.graph
    for clip in [node for node in graph if is_op(node, "Clip") and is_on_codes(node)]:
        quantize = sole_producer(clip.inputs[0], "QuantizeLinear")
        if quantize is None:
            raise QuantizationError(
                f"{clip.name}: this limit of codes has no float values before it; use --target ort-cpu"
            )
        _move(graph, clip, quantize)
    clean(model)


def is_on_codes(clip: ir.Node) -> bool:
    """Whether it limits codes, and no values."""
    return clip.inputs[0] is not None and clip.inputs[0].dtype in (ir.DataType.UINT8, ir.DataType.INT8)


def _move(graph: ir.Graph, clip: ir.Node, quantize: ir.Node) -> None:
    x, codes, name = quantize.inputs[0], quantize.outputs[0], str(clip.outputs[0].name)
    scale, zero_point = (constant_of(v, name) for v in quantize.inputs[1:3])
    bounds = [
        constant(graph, f"{name}.{what}", np.float32((int(constant_of(v, name)) - int(zero_point)) * np.float32(scale)))
        for what, v in (("lowest", clip.inputs[1]), ("highest", clip.inputs[2]))
    ]
    assert x is not None
    quantize.replace_input_with(0, insert(quantize, "Clip", [x, *bounds], f"{name}.values_clipped", shape=x.shape))
    replace(clip.outputs[0], codes)
    graph.remove(clip, safe=True)
    codes.name = name
