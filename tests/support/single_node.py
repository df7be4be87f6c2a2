"""Build small ONNX models and run them in ONNX Runtime, with graph optimization on and off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

LEVELS = {
    "optimized": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "plain": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
MICROSOFT = "com.microsoft"


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, np.ndarray],
    outputs: Mapping[str, Any],
    constants: Mapping[str, Any],
    opset: int = 21,
) -> onnx.ModelProto:
    """A model whose graph inputs have the types of `inputs` (any shape of that rank); outputs: name -> numpy type."""

    def info(name: str, dtype: Any, rank: int | None) -> onnx.ValueInfoProto:
        shape = None if rank is None else [f"{name}_{i}" for i in range(rank)]
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    graph = helper.make_graph(
        list(nodes),
        "test",
        [info(name, value.dtype, value.ndim) for name, value in inputs.items()],
        [info(name, dtype, None) for name, dtype in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def node(
    op: str,
    inputs: Mapping[str, np.ndarray],
    constants: Sequence[Any],
    output: Any = np.uint8,
    *,
    domain: str = "",
    order: str = "",
    **attributes: Any,
) -> onnx.ModelProto:
    """One node with output `y`. Its inputs: those in `inputs`, then `constants` (None: left out).

    order: for each input of the node, "i" (the next of `inputs`) or "c" (the next of `constants`).
    """
    order = order or "i" * len(inputs) + "c" * len(constants)
    names, initializers = iter(inputs), {}
    arguments = []
    values = iter(constants)
    for i, kind in enumerate(order):
        if kind == "i":
            arguments.append(next(names))
            continue
        value = next(values)
        arguments.append("" if value is None else f"c{i}")
        if value is not None:
            initializers[f"c{i}"] = value
    return build(
        [helper.make_node(op, arguments, ["y"], "node", domain=domain, **attributes)],
        inputs,
        {"y": output},
        initializers,
    )


def onnx_runtime(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], level: str) -> dict[str, np.ndarray]:
    """Graph outputs by name, on two threads."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))
