"""Layers that a forward calls as functions, in torch.fx's graph: they get the quantizers that modules have.

    F.conv2d(x, W)             =>  F.conv2d(functional.conv2d.input(x), functional.conv2d.weight(W))
    F.linear(x, W), x @ W      =>  likewise; the rows of what the quantizer sees are output channels

W is what parameters and constants alone decide: a parameter, the weight of an embedding, a standardized weight.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from .layer_types import TransposedWeight
from .quantizer import Quantizer

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
PRODUCTS = (operator.matmul, torch.matmul, torch.mm, "matmul", "mm", "__matmul__")
FUNCTIONS = (*CONVOLUTIONS, *TRANSPOSED, F.linear)
PREFIX = "functional"
WEIGHT, GROUPS = 1, 6  # the places of their arguments


def key_of(node: fx.Node) -> str:
    """The name of a layer: of the module, or of the function's call."""
    return str(node.target) if node.op == "call_module" else f"{PREFIX}.{node.name}"


def functional_layers(model: fx.GraphModule, constants: set[fx.Node]) -> dict[fx.Node, fx.Node]:
    """{call: its weight} of functions whose weights parameters alone decide, and whose inputs they do not.

    constants: what parameters, buffers and shapes alone decide.
    """
    found = {}
    for node in model.graph.nodes:
        if node.op not in ("call_function", "call_method") or node.target not in (*FUNCTIONS, *PRODUCTS):
            continue
        weight, data = _argument(node, WEIGHT, "weight"), _argument(node, 0, "input")
        if not isinstance(weight, fx.Node) or weight not in constants or data in constants:
            continue
        if node.target in FUNCTIONS or constant_value(model, weight).dim() == 2:
            found[node] = weight
    return found


def quantize_call(
    model: fx.GraphModule, node: fx.Node, weight: fx.Node, quantizers: tuple[Quantizer, Callable[[int], Quantizer]]
) -> None:
    """Quantizers on the input and the weight of a call. quantizers: of the input; of a weight of so many channels."""
    graph, name, target = model.graph, key_of(node), node.target
    data = _argument(node, 0, "input")
    of_input, of_weight = quantizers
    model.add_submodule(f"{name}.input", of_input)
    shape = constant_value(model, weight).shape
    transposed = target in TRANSPOSED
    groups = int(_argument(node, GROUPS, "groups") or 1) if transposed else 1
    channels = shape[1] * groups if transposed or target in PRODUCTS else shape[0]
    quantizer = of_weight(channels)
    model.add_submodule(f"{name}.weight", TransposedWeight(quantizer, groups) if transposed else quantizer)
    with graph.inserting_before(node):
        x = graph.call_module(f"{name}.input", (data,))
        turned = graph.call_method("transpose", (weight, 0, 1)) if target in PRODUCTS else weight
        w = graph.call_module(f"{name}.weight", (turned,))
        w = graph.call_method("transpose", (w, 0, 1)) if target in PRODUCTS else w
    _set_argument(node, 0, "input", x)
    _set_argument(node, WEIGHT, "weight", w)


def constant_value(model: nn.Module, node: fx.Node) -> torch.Tensor:
    """What the node makes, of parameters and constants alone."""
    known: dict[fx.Node, Any] = {}

    def value(node: fx.Node) -> Any:
        if node not in known:
            known[node] = _computed(model, node, value)
        return known[node]

    with torch.no_grad():
        found: torch.Tensor = value(node)
    return found


def _computed(model: nn.Module, node: fx.Node, value: Callable[[fx.Node], Any]) -> Any:
    if node.op == "get_attr":
        return operator.attrgetter(str(node.target))(model)
    args, kwargs = fx.map_arg(node.args, value), fx.map_arg(node.kwargs, value)
    if node.op == "call_module":
        return model.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _argument(node: fx.Node, position: int, name: str) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def _set_argument(node: fx.Node, position: int, name: str, value: fx.Node) -> None:
    if len(node.args) > position:
        node.update_arg(position, value)
    else:
        node.update_kwarg(name, value)
