"""How many multiplications a file does, and how many of them on integers, counted on what ONNX Runtime makes of it.

Convolutions and products of matrices count one for each weight or element that they read for an output element;
operators on single elements count one, norms two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

ELEMENTS = {"Mul": 1, "Div": 1, "Pow": 1, "QLinearMul": 1, "LayerNormalization": 2, "RMSNormalization": 2, "Softmax": 1}
ELEMENTS |= {"InstanceNormalization": 2, "GroupNormalization": 2, "Resize": 4, "BatchNormalization": 1, "LogSoftmax": 1}
WINDOWS = {"Conv": 1, "ConvTranspose": 1, "QLinearConv": 3, "ConvInteger": 1}  # where the weight is
PRODUCTS = {"Gemm": (0, 1), "MatMul": (0, 1), "QGemm": (0, 3), "QLinearMatMul": (0, 3), "MatMulInteger": (0, 1)}
INTEGER = {"QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger", "QLinearMul"}
RECURRENT = {"LSTM", "GRU", "RNN"}


def multiplications(path: Path, feed: Mapping[str, np.ndarray]) -> tuple[Counter[str], float]:
    """(number by operator, share of them that is integer, from 0 to 1)."""
    proto = onnx.load(path)
    shapes = _shapes(proto, feed)
    counted: Counter[str] = Counter()
    for node in proto.graph.node:
        counted[node.op_type] += _of(node, shapes)
    counted = +counted
    total = sum(counted.values())
    return counted, sum(n for name, n in counted.items() if name in INTEGER) / total if total else 1.0


def _of(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    if not node.output or node.output[0] not in shapes:
        return 0
    out = int(np.prod(shapes[node.output[0]]))
    if node.op_type in ELEMENTS:
        return out * ELEMENTS[node.op_type]
    if node.op_type in WINDOWS:
        weight = shapes[node.input[WINDOWS[node.op_type]]]
        if node.op_type == "ConvTranspose":
            return int(np.prod(shapes[node.input[0]])) * int(np.prod(weight[1:]))
        return out * int(np.prod(weight[1:]))
    if node.op_type in PRODUCTS:
        first = shapes[node.input[PRODUCTS[node.op_type][0]]]
        flipped = any(a.name == "transA" and a.i for a in node.attribute)
        return out * (first[0] if flipped else first[-1])
    if node.op_type in RECURRENT:
        steps = int(np.prod(shapes[node.input[0]][:2]))
        return steps * sum(int(np.prod(shapes[name])) for name in node.input[1:3])
    return 0


def _shapes(proto: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Of every tensor."""
    found = {init.name: tuple(init.dims) for init in proto.graph.initializer}
    found |= {name: value.shape for name, value in feed.items()}
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t).shape
    opened = onnx.ModelProto()
    opened.CopyFrom(proto)
    known = {output.name for output in opened.graph.output}
    inner = [name for node in proto.graph.node for name in node.output if name and name not in known]
    opened.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in inner)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return found | {name: np.shape(value) for name, value in zip(names, session.run(names, dict(feed)), strict=True)}
