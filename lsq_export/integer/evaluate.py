"""Run the integer graph node by node: each operator has one function, in the file of its family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx

from calib.errors import QuantizationError

# The operators register themselves.
from . import conv, elementwise, float_island, gemm, linear, pool, shape, table  # noqa: F401
from .any_operator import on_purpose
from .graph import Graph, Model, load, needed
from .kept_float import kept_float
from .node import OPERATORS, UNKNOWN, Array, Node


def run(
    model: Model,
    inputs: Mapping[str, Array],
    *,
    on_tensor: Callable[[str, Array], None] | None = None,
    outputs: Sequence[str] | None = None,
    given: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Evaluate a `qoperator` model: {name: tensor in its ONNX type} of every input and every node's output.

    outputs: only these tensors; everything else is freed as soon as its last reader has run, and without `on_tensor`
    nodes that they do not need are not run.
    on_tensor(name, tensor): called for each node's output as it is made.
    given: {tensor: value that takes its place}, for what readers get; on_tensor still sees what the node made.

    Raises QuantizationError: an operator that is not integer arithmetic or not known (named with its node), an
    accumulator that does not fit 32 bits, an input that is missing, unknown or of the wrong type.
    """
    graph = load(model)
    asked = None if outputs is None else tuple(outputs)
    _check_inputs(graph, inputs)
    nodes = graph.nodes
    if asked is not None:
        necessary = needed(graph, asked)  # also checks that the names exist
        nodes = necessary if on_tensor is None else nodes
    last_use = {name: i for i, node in enumerate(nodes) for name in node.inputs}
    tensors: dict[str, Array] = dict(graph.constants)
    tensors.update((name, np.asarray(value)) for name, value in inputs.items())
    for i, node in enumerate(nodes):
        for name, value in zip(node.outputs, _evaluate(node, tensors), strict=True):
            tensors[name] = value if given is None else given.get(name, value)
            if on_tensor is not None:
                on_tensor(name, value)
        if asked is not None:
            for name in {*node.inputs, *node.outputs}:
                if last_use.get(name, i) <= i and name not in asked:
                    tensors.pop(name, None)
    if asked is not None:
        return {name: tensors[name] for name in asked}
    return {name: value for name, value in tensors.items() if name not in graph.constants}


def _evaluate(node: Node, tensors: Mapping[str, Array]) -> list[Array]:
    """Outputs of one node. Float32 overflow is no warning: scales are checked, and codes saturate."""
    return _applied(node, [tensors[name] if name else None for name in node.inputs])


def _applied(node: Node, inputs: Sequence[Array | None]) -> list[Array]:
    function = kept_float if on_purpose(node) else OPERATORS.get(node.op)
    if function is None:
        raise node.error(UNKNOWN)
    with np.errstate(over="ignore"):
        return function(node, inputs)


def apply(proto: onnx.NodeProto, inputs: Sequence[Array | None]) -> Array:
    """The first output of one node. Errors (QuantizationError): as `run`."""
    return _applied(Node.from_proto(proto, 21), inputs)[0]


def _check_inputs(graph: Graph, inputs: Mapping[str, Array]) -> None:
    for name in inputs:
        if name not in graph.inputs:
            raise QuantizationError(f"the model has no input {name}; its inputs are {', '.join(graph.inputs)}")
    for name, dtype in graph.inputs.items():
        if name not in inputs:
            raise QuantizationError(f"input {name} is missing")
        if np.asarray(inputs[name]).dtype != dtype:
            raise QuantizationError(f"input {name} is {np.asarray(inputs[name]).dtype}, the model takes {dtype}")
