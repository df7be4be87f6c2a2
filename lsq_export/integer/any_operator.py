"""Operators that a file keeps as they are on purpose: float islands of any kind, and arithmetic of shapes and indices.

onnx's ReferenceEvaluator computes them in float64, rounded once to float32; ONNX Runtime in float32 those for which it
has slow loops, and those that it lacks. The file says on which nodes that is so, in their doc_string: any other float
operator has no place in a `qoperator` file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from .node import Array, Inputs, Node

ON_PURPOSE = "kept float"  # how the doc_string begins
SLOW = (
    *("AffineGrid", "AveragePool", "Conv", "ConvTranspose", "DeformConv", "GRU", "GlobalAveragePool", "GridSample"),
    *("LSTM", "LpPool", "MaxPool", "MaxRoiPool", "NonMaxSuppression", "RNN", "Resize", "RoiAlign"),
)


def on_purpose(node: Node) -> bool:
    """Whether the file says that this operator shall stay as it is."""
    return node.proto.doc_string.startswith(ON_PURPOSE)


def as_it_is(node: Node, x: Inputs) -> list[Array]:
    """All outputs of the node, floats as float32."""
    if node.proto.op_type not in SLOW and not node.proto.domain:
        try:
            return _reference(node, x)
        except Exception:  # whatever the evaluator lacks; ONNX Runtime says what is wrong with the others
            pass
    return _stock(node, x)


def _reference(node: Node, x: Inputs) -> list[Array]:
    feeds = {
        name: value.astype(np.float64) if value.dtype == np.float32 else value
        for name, value in zip(node.inputs, x, strict=True)
        if name and value is not None
    }
    with np.errstate(all="ignore"):  # infinities saturate
        results = ReferenceEvaluator(node.proto, opsets={"": node.opset}).run(None, feeds)
    return [_rounded(np.asarray(y)) for y in list(results)[: len(node.outputs)]]


def _rounded(y: Array) -> Array:
    return y.astype(np.float32) if y.dtype == np.float64 else y


def _stock(node: Node, x: Inputs) -> list[Array]:
    import onnxruntime as ort

    known = {name: value for name, value in zip(node.inputs, x, strict=True) if name and value is not None}
    fixed = {name: value for name, value in known.items() if value.dtype == np.int64 and value.ndim <= 1}  # sizes, axes
    given = [_info(name, value) for name, value in known.items() if name not in fixed]
    constants = [numpy_helper.from_array(value, name) for name, value in fixed.items()]
    made = [onnx.helper.make_empty_tensor_value_info(name) for name in node.outputs if name]
    domains = [onnx.helper.make_opsetid("", node.opset)]
    if node.proto.domain:
        domains.append(onnx.helper.make_opsetid(node.proto.domain, 1))
    graph = onnx.helper.make_graph([node.proto], "node", given, made, constants)
    model = onnx.helper.make_model(graph, opset_imports=domains, ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        results: Sequence[Any] = session.run(None, {name: value for name, value in known.items() if name not in fixed})
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise node.error(f"neither onnx nor ONNX Runtime computes it ({str(error).splitlines()[0][:200]})") from error
    found = iter(results)
    return [np.asarray(next(found)) if name else np.empty(0, np.float32) for name in node.outputs]


def _info(name: str, value: Array) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, [None] * value.ndim)
