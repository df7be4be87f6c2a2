"""keep_float: a layer that is kept float stays float in runtimes as well.

    QuantizeLinear(Conv(DequantizeLinear(x), w, b))   =>  QuantizeLinear(Sum(Conv(DequantizeLinear(x), w, b)))

A Sum of one value is that value. ONNX Runtime's WeightBiasQuantization takes a Conv or Gemm between DequantizeLinear
and QuantizeLinear for one that was to be quantized: it rounds float weights to INT8, with one scale for all channels,
and the bias to int32. The Sum keeps that pattern from matching. Only the layers of `QATConfig(layers={…: "float"})` are
meant.
"""

from __future__ import annotations

import onnx_ir as ir

from lsq_export.graph.edit import insert_after
from lsq_export.graph.kept_float import is_float_layer
from lsq_export.graph.read import is_op, maker_of, producer_of
from lsq_export.rewrite.contract.conditions import INTEGER_BIASES
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless


def keep_float(model: ir.Model) -> None:
    graph = model.graph
    for node in list(graph):
        if _looks_quantized(node):
            y = node.outputs[0]
            readers = list(y.uses())
            kept = insert_after(y, graph, "Sum", [y], f"{y.name}_kept")
            maker_of(kept).name = f"{node.name}.Sum"
            for reader, index in readers:
                reader.replace_input_with(index, kept)


def _looks_quantized(node: ir.Node) -> bool:
    if not is_float_layer(node) or not is_op(producer_of(node.inputs[0]), "DequantizeLinear"):
        return False
    return any(is_op(reader, "QuantizeLinear") for reader in node.outputs[0].consumers())


PASS = Pass("keep_float", stateless(keep_float), Keeps.CODES, requires=(INTEGER_BIASES,), ensures=(INTEGER_BIASES,))
