"""The float network of a trained graph: what `bench` compares the integer files with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from .bundle import TRAINED, load_onnx
from .emit import serialize
from .graph import clean, constant, constant_of, is_marker, is_op, replace


def float_model(trained: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without its quantizers: the operators and shapes of the float model as torch exports it, weights as values.

    The weights are the trained low-bit values; latency does not depend on them.
    """
    model = ir.from_proto(trained)
    graph = model.graph
    for node in list(graph):
        if is_marker(node):
            assert node.inputs[0] is not None
            replace(node.outputs[0], node.inputs[0])
        elif is_op(node, "DequantizeLinear"):
            codes, scale = (constant_of(v, str(node.name)).astype(np.float32) for v in node.inputs[:2])
            values = codes * scale.reshape(-1, *[1] * (codes.ndim - 1))
            replace(node.outputs[0], constant(graph, f"{node.outputs[0].name}.float", values))
    clean(model)
    return serialize(model, graph.opset_imports[""], "float")


def float_model_of(bundle: Path) -> bytes:
    """Of a bundle directory, serialized."""
    return float_model(load_onnx(bundle / TRAINED)).SerializeToString()
