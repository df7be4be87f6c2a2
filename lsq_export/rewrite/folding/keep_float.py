"""keep_float: an operator that is kept float stays float in runtimes as well.

    QuantizeLinear(Conv(DequantizeLinear(x), w, b))   =>  QuantizeLinear(Sum(Conv(DequantizeLinear(x), w, b)))

A Sum of one value is that value. ONNX Runtime's WeightBiasQuantization takes a Conv or Gemm between DequantizeLinear
and QuantizeLinear for one that was to be quantized: it rounds float weights to INT8, with one scale for all channels,
and the bias to int32. Other operators between the two become kernels on codes. The Sum keeps such patterns from
matching. Only operators with the note FLOAT are meant, and a Softmax on a learned grid: QLinearSoftmax takes the scale
for 1/n (softmax.py).
"""

from __future__ import annotations

import onnx_ir as ir

from lsq_export.graph.edit import insert_after
from lsq_export.graph.grids import grid_of_codes
from lsq_export.graph.kept_float import of_shapes, stays_float
from lsq_export.graph.read import is_op, maker_of, producer_of
from lsq_export.rewrite.contract.conditions import INTEGER_BIASES
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless

from .softmax import is_reciprocal, is_softmax


def keep_float(model: ir.Model) -> None:
    graph = model.graph
    for node in list(graph):
        for index, y in enumerate(node.outputs if _looks_quantized(node) else ()):
            readers = [(use.node, use.idx) for use in y.uses() if is_op(use.node, "QuantizeLinear")]
            if is_softmax(y) and not stays_float(node):
                readers = [(quantize, i) for quantize, i in readers if not is_reciprocal(grid_of_codes(quantize)[0])]
            if not readers:
                continue
            kept = insert_after(y, graph, "Sum", [y], f"{y.name}_kept")
            maker_of(kept).name = f"{node.name}.Sum{f'_{index}' if index else ''}"
            for reader, place in readers:
                reader.replace_input_with(place, kept)


def _looks_quantized(node: ir.Node) -> bool:
    return (
        (stays_float(node) or is_op(node, "Softmax"))
        and not of_shapes(node)
        and any(is_op(producer_of(x), "DequantizeLinear") for x in node.inputs)
    )


PASS = Pass("keep_float", stateless(keep_float), Keeps.CODES, requires=(INTEGER_BIASES,), ensures=(INTEGER_BIASES,))
