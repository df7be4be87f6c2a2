"""split_strides: a convolution of single pixels with strides becomes a pool that takes these pixels, and one without.

    Conv1×1(x, stride n)  =>  Conv1×1(DequantizeLinear(QuantizeLinear(MaxPool1×1(x, stride n))))

Both take every n-th pixel; the pair repeats the grid of x, on which all of its values are. OpenVINO 2026.4.1 has no
integer kernel for such a convolution.
"""

from __future__ import annotations

import onnx_ir as ir

from lsq_export.graph.edit import insert
from lsq_export.graph.read import attribute, input_of, is_op, producer_of


def split_strides(model: ir.Model) -> None:
    """In a QDQ graph."""
    for node in list(model.graph):
        source = producer_of(node.inputs[0]) if is_op(node, "Conv") else None
        kernel, strides = attribute(node, "kernel_shape"), attribute(node, "strides")
        if source is None or not is_op(source, "DequantizeLinear") or kernel is None or strides is None:
            continue
        if set(kernel) != {1} or set(strides) == {1} or any(attribute(node, "pads", [])):
            continue
        x, name, grid = input_of(node), str(node.name), list(source.inputs[1:])
        y = insert(node, "MaxPool", [x], f"{name}.taken", kernel_shape=list(kernel), strides=list(strides))
        codes = insert(node, "QuantizeLinear", [y, *grid], f"{name}.taken.codes")
        node.replace_input_with(0, insert(node, "DequantizeLinear", [codes, *grid], f"{name}.taken.values"))
        node.attributes["strides"] = ir.AttrInt64s("strides", [1] * len(strides))
