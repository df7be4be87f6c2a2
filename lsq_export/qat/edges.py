"""8-bit quantizers where the fold will need a grid that no layer's input has: training then sees what the fold will do.

    y = f(x), read by a sum or by several readers   =>   y = f(x);  y = edges.<name>(y)
    y = silu(x), as integer kernels compute it      =>   y = x · edges.<name>_sigmoid(sigmoid(x)); likewise hardswish

The rule is that of `rewrite/folding/edges.py`, on torch.fx's graph instead of ONNX's: a value that has a quantizer
needs no grid from calibration at export. Clamps, batch norms and pools between a layer and the grid stay before the
grid, as the fold leaves them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import fx, nn

from calib.samples import Input

from .float_functions import inside_islands, is_tensor
from .functional import functional_layers, key_of, owner_of, quantize_call
from .opened import PLACE, open_call
from .parallel import Layers, is_part, merges, split_for_merging
from .places import place_of
from .quantizer import Quantizer
from .tracing import trace

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.Flatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity),
)
FUNCTIONS = (F.relu, torch.relu, F.relu6, F.hardtanh, torch.clamp, torch.flatten, F.max_pool1d, F.max_pool2d)
SHAPES = ("size", "dim", getattr)  # methods and functions that ask for numbers, not for values
CLAMP_MODULES = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
CLAMPS = (F.relu, torch.relu, F.relu6, F.hardtanh, torch.clamp, "relu", "relu_", "clamp", "clamp_")
METHODS = ("relu", "relu_", "clamp", "clamp_", "flatten", "reshape", "view", "permute", "contiguous")


class Makes(Protocol):
    """What makes quantizers, each with the name that it is given."""

    def edge(self, name: str) -> Quantizer:
        """Of an edge."""

    def bits(self, layer: str, owner: str) -> int | None:
        """Of the input of a layer that is called as a function; None: it stays float. owner: module of its weight."""

    def of_call(self, layer: str, owner: str) -> tuple[Quantizer, Callable[[int], Quantizer]]:
        """(of the input of such a layer, of its weight with so many output channels)"""


def insert_edges(model: nn.Module, layers: Layers, make: Makes, example: Input | None = None) -> fx.GraphModule:
    """Trace the model and insert quantizers on its edges and on layers that it calls as functions.

    Names of parameters stay. layers: {layer: bits of its input; None: it stays float}. example: as in `tracing.trace`.

    Errors (Untraceable): see `tracing.trace`.
    """
    traced = trace(model, layers, example)
    graph = traced.graph
    for node in list(graph.nodes):
        open_call(traced, node)
    constants = _constants(graph, layers)
    found = functional_layers(traced, constants)
    bits = {node: make.bits(key_of(node), owner_of(weight)) for node, weight in found.items()}
    calls = {node: weight for node, weight in found.items() if bits[node] is not None}
    layers = {**layers, **{key_of(node): bits[node] for node in calls}}
    left_out = inside_islands(traced) | constants
    for node in list(graph.nodes):
        if node.op in ("output", "get_attr") or _asks(node) or node in left_out or not is_tensor(traced, node):
            continue
        if _needs_edge(traced, node, layers):
            name = f"edges.{node.name}"
            if hasattr(nn.Module, node.name):  # a name that modules have themselves, such as "to"
                name = f"{name}_edge"
            quantizer = make.edge(name)
            quantizer.place = node.meta.get(PLACE) or place_of(traced, node)
            traced.add_submodule(name, quantizer)
            with graph.inserting_after(node):
                edge = graph.call_module(name, (node,))
            for reader in [user for user in node.users if user is not edge]:
                reader.replace_input_with(node, edge)
    for node, weight in calls.items():
        quantize_call(traced, node, weight, make.of_call(key_of(node), owner_of(weight)))
    traced.recompile()
    return traced


def _needs_edge(model: fx.GraphModule, node: fx.Node, layers: Layers) -> bool:
    if is_part(node):
        return False
    readers = [reader for reader in node.users if not _asks(reader)]
    if not readers or any(reader.op == "output" for reader in readers):
        return False
    if node.op == "placeholder" and all(
        _is_layer(reader, layers) and _bits(reader, layers) is None for reader in readers
    ):
        return False  # float layers take the network's input as it is
    if len(readers) > 1:
        return True
    (reader,) = readers
    if _is_layer(reader, layers):
        bits = _bits(reader, layers)
        if bits is None:
            return not _stays_float(model, node, layers)
        return bits < 8 and not _from_layer(model, node, layers)
    merged = split_for_merging(model, reader, layers)
    if merged is not None:
        return merged < 8 and not _from_layer(model, node, layers)
    if merges(model, reader, layers):
        return False
    if _is_norm(model, reader):
        return not (_is_layer(node, layers) or merges(model, node, layers))  # alone, it becomes a layer of its own
    return not _passes(model, reader)


def _constants(graph: fx.Graph, layers: Layers) -> set[fx.Node]:
    """What parameters, buffers and shapes alone decide: the fold gives these their grids where one is needed."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        sources = [source for source in node.all_input_nodes if not _asks(source)]
        computed = node.op in ("call_function", "call_method") or (
            node.op == "call_module" and not _is_layer(node, layers)
        )
        if node.op == "get_attr" or (computed and not _asks(node) and all(source in found for source in sources)):
            found.add(node)
    return found


def _asks(node: fx.Node) -> bool:
    """Whether the node asks for a shape, or computes with such a number; numbers have no grid."""
    if node.target in SHAPES:
        return True
    sources = node.all_input_nodes
    return node.op == "call_function" and bool(sources) and all(_asks(source) for source in sources)


def _from_layer(model: fx.GraphModule, node: fx.Node, layers: Layers) -> bool:
    """Whether the value comes from a quantized layer or a norm through operators that pass its grid on.

    None of the values on the way has another reader.
    """
    while not (_is_norm(model, node) or _is_layer(node, layers) or merges(model, node, layers)):
        if not _passes(model, node) or len(node.all_input_nodes[0].users) > 1:
            return False
        node = node.all_input_nodes[0]
    return True


def _is_layer(node: fx.Node, layers: Layers) -> bool:
    return node.op in ("call_module", "call_function", "call_method") and key_of(node) in layers


def _bits(layer: fx.Node, layers: Layers) -> int | None:
    return layers[key_of(layer)]


def _stays_float(model: fx.GraphModule, node: fx.Node, layers: Layers) -> bool:
    """Whether the value comes from a float layer through nothing but norms and clamps, which nobody else reads."""
    while not _is_layer(node, layers):
        if not (_is_norm(model, node) or _is_clamp(model, node)) or len(node.all_input_nodes[0].users) > 1:
            return False
        node = node.all_input_nodes[0]
    return _bits(node, layers) is None


def _is_clamp(model: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), CLAMP_MODULES)
    return node.target in CLAMPS


def _is_norm(model: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), NORMS)
    return node.target is F.batch_norm and node.all_input_nodes[0] is node.args[0]


def _passes(model: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node is a clamp, or an operator that keeps codes."""
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), MODULES)
    if node.op == "call_function":
        return node.target in FUNCTIONS
    return node.op == "call_method" and node.target in METHODS
