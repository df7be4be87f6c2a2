"""8-bit quantizers where the fold will need a grid that no layer's input has: training then sees what the fold will do.

    y = f(x), read by a sum or by several readers   =>   y = f(x);  y = edges.<name>(y)
    y = silu(x), as integer kernels compute it      =>   y = x · edges.<name>_sigmoid(sigmoid(x)); likewise hardswish
    y = glu(x), as integer kernels compute it       =>   y = a · edges.<name>_sigmoid(sigmoid(b)), a and b its halves
    y = tanh(x), as integer kernels compute it      =>   y = edges.<name>(tanh(x)), on the one grid of its codes
    y = x + position, a parameter                   =>   y = x + position in 256 values (rounded_constants.py)

The rule is that of `rewrite/folding/edges.py`, on torch.fx's graph instead of ONNX's: a value that has a quantizer
needs no grid from calibration at export. Clamps, batch norms and pools between a layer and the grid stay before the
grid, as the fold leaves them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import fx, nn

from calib.folding.edge_grid import TANH
from calib.samples import Input

from .equal_scores import order_equal_scores
from .float_functions import float_nodes, hands_out, inside_islands, is_tensor
from .functional import functional_layers, key_of, owner_of, quantize_call
from .gates import PLACE
from .infinite_masks import infinite_masks
from .known_types import note_types
from .node_kinds import asks, bits_of, is_clamp, is_layer, is_norm, is_tanh, passes
from .opened import open_call
from .output_edges import rounded_at_output
from .parallel import Layers, is_part, merges, split_for_merging
from .places import place_of
from .quantizer import Quantizer
from .rounded_constants import round_constants
from .tracing import trace


class Makes(Protocol):
    """What makes quantizers, each with the name that it is given."""

    def edge(self, name: str, fixed: tuple[float, float] | None = None) -> Quantizer:
        """Of an edge. fixed: (scale, offset) of a grid that is not learned."""

    def bits(self, layer: str, owner: str) -> int | None:
        """Of the input of a layer that is called as a function; None: it stays float. owner: module of its weight."""

    def of_call(self, layer: str, owner: str, *, holds_zero: bool) -> tuple[Quantizer, Callable[[int], Quantizer]]:
        """(of the input of such a layer, of its weight with so many output channels)"""


def insert_edges(model: nn.Module, layers: Layers, make: Makes, example: Input | None = None) -> fx.GraphModule:
    """Trace the model and insert quantizers on its edges and on layers that it calls as functions.

    Names of parameters stay. layers: {layer: bits of its input; None: it stays float}. example: as in `tracing.trace`.

    Errors (Untraceable): see `tracing.trace`.
    """
    traced = trace(model, layers, example)
    graph = traced.graph
    if example is not None:
        note_types(traced, example)
    order_equal_scores(graph)
    for node in list(graph.nodes):
        open_call(traced, node)
    constants = _constants(graph, layers)
    found = functional_layers(traced, constants)
    bits = {node: make.bits(key_of(node), owner_of(weight)) for node, weight in found.items()}
    calls = {node: weight for node, weight in found.items() if bits[node] is not None}
    layers = {**layers, **{key_of(node): bits[node] for node in calls}}
    floats = float_nodes(traced)
    left_out = inside_islands(traced, floats) | infinite_masks(graph, constants) | constants
    for node in list(graph.nodes):
        if node.op in ("output", "get_attr") or asks(node) or node in left_out or not is_tensor(traced, node):
            continue
        if _needs_edge(traced, node, layers):
            name = f"edges.{node.name}"
            if hasattr(nn.Module, node.name):  # a name that modules have themselves, such as "to"
                name = f"{name}_edge"
            quantizer = make.edge(name, (TANH.scale, TANH.offset) if is_tanh(traced, node) else None)
            quantizer.place = node.meta.get(PLACE) or place_of(traced, node)
            traced.add_submodule(name, quantizer)
            with graph.inserting_after(node):
                edge = graph.call_module(name, (node,))
            for reader in [user for user in node.users if user is not edge]:
                reader.replace_input_with(node, edge)
    round_constants(traced, constants, floats | set(calls))
    for node, weight in calls.items():
        quantizers = make.of_call(key_of(node), owner_of(weight), holds_zero=_needs_zero(traced, node, layers))
        quantize_call(traced, node, weight, quantizers)
    traced.recompile()
    return traced


def _needs_edge(model: fx.GraphModule, node: fx.Node, layers: Layers) -> bool:
    if is_part(node):
        return False
    readers = [reader for reader in node.users if not asks(reader)]
    if not readers:
        return False
    if all(map(hands_out, readers)):
        return rounded_at_output(model, node, layers)
    if node.op == "placeholder" and all(
        is_layer(reader, layers) and bits_of(reader, layers) is None for reader in readers
    ):
        return False  # float layers take the network's input as it is
    if len(readers) > 1 or is_tanh(model, node):
        return True
    (reader,) = readers
    if is_layer(reader, layers):
        bits = bits_of(reader, layers)
        if bits is None:
            return not _stays_float(model, node, layers)
        return bits < 8 and not _from_layer(model, node, layers)
    merged = split_for_merging(model, reader, layers)
    if merged is not None:
        return merged < 8 and not _from_layer(model, node, layers)
    if merges(model, reader, layers):
        return False
    if is_norm(model, reader):
        return not (is_layer(node, layers) or merges(model, node, layers))  # alone, it becomes a layer of its own
    return not passes(model, reader)


def grids_with_zero(traced: fx.GraphModule, layers: Layers) -> set[str]:
    """Layers of 8-bit inputs that no layer makes (means, the network's input): no bias before them carries an offset,
    and an integer kernel's grid holds real zero.

    traced: what `insert_edges` gave. layers: as it takes them.
    """
    called = [node for node in traced.graph.nodes if is_layer(node, layers) and node.all_input_nodes]
    return {key_of(node) for node in called if _needs_zero(traced, node, layers)}


def _needs_zero(traced: fx.GraphModule, layer: fx.Node, layers: Layers) -> bool:
    return bits_of(layer, layers) == 8 and not _from_layer(traced, layer.all_input_nodes[0], layers)


def _constants(graph: fx.Graph, layers: Layers) -> set[fx.Node]:
    """What parameters, buffers and shapes alone decide: the fold gives these their grids where one is needed."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        sources = [source for source in node.all_input_nodes if not asks(source)]
        computed = node.op in ("call_function", "call_method") or (
            node.op == "call_module" and not is_layer(node, layers)
        )
        if node.op == "get_attr" or (computed and not asks(node) and all(source in found for source in sources)):
            found.add(node)
    return found


def _from_layer(model: fx.GraphModule, node: fx.Node, layers: Layers) -> bool:
    """Whether the value comes from a quantized layer or a norm through operators that pass its grid on.

    None of the values on the way has another reader.
    """
    while not (is_norm(model, node) or is_layer(node, layers) or merges(model, node, layers)):
        if not passes(model, node) or len(node.all_input_nodes[0].users) > 1:
            return False
        node = node.all_input_nodes[0]
    return True


def _stays_float(model: fx.GraphModule, node: fx.Node, layers: Layers) -> bool:
    """Whether the value comes from a float layer through nothing but norms and clamps, which nobody else reads."""
    while not is_layer(node, layers):
        if not (is_norm(model, node) or is_clamp(model, node)) or len(node.all_input_nodes[0].users) > 1:
            return False
        node = node.all_input_nodes[0]
    return bits_of(node, layers) is None
