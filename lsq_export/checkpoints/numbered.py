"""Quantizers that a library counts instead of naming them: in the order of the graph.

    every tensor     x, conv1 (with its batch norm and ReLU), dw, silu, add, …
    every layer      the inputs of conv1, of dw, of fc; what a layer made, with its batch norm and ReLU, has its grid
                     for all that read it, anything else for the layers alone (torchao's X86InductorQuantizer in QAT)

Either fits the number of quantizers in the file (and where weights are counted, too, which of them are weights), or
nothing is assumed. torchao moves operators that it fuses, so that branches are counted in an order of its own: there a
network has to be one chain, in which each tensor depends on the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import fx, nn

from lsq_export.qat.layer_types import QUANTIZED_LAYERS

from .learned import Raw
from .libraries import Numbered
from .sites import Site, fused, is_float, module_at

WEIGHT = "weight"
FLAT_MODULES = (nn.Flatten, nn.Unflatten)
FLAT_FUNCTIONS = ("flatten", "reshape", "view", "squeeze", "unsqueeze")


@dataclass(frozen=True)
class Slot:
    """What one number can stand for. layer: the module of a weight; sites: of an activation."""

    sites: tuple[Site, ...] = ()
    layer: str | None = None


def slots_of(traced: fx.GraphModule, raws: list[Raw], numbered: Numbered) -> dict[str, Slot] | None:
    """{name of a counted quantizer: what it is}, or None: neither way fits. raws: those that are counted."""
    in_order = sorted(raws, key=lambda raw: int(numbered.pattern.fullmatch(raw.name)[1]))  # type: ignore[index]
    kinds = [raw.role == WEIGHT for raw in in_order]
    if numbered.weights and not _is_chain(traced):
        return None
    ways = [way(traced, numbered) for way in (_every_tensor, _every_layer)]
    fitting = [slots for slots in ways if [slot.layer is not None for slot in slots] == kinds]
    if not fitting:
        return None
    return {raw.name: slot for raw, slot in zip(in_order, fitting[0], strict=True)}


def _is_chain(traced: fx.GraphModule) -> bool:
    """Whether each tensor depends on the one before, so that there is one order to count them in."""
    behind: dict[fx.Node, set[fx.Node]] = {}
    last: fx.Node | None = None
    for node in traced.graph.nodes:
        behind[node] = set(node.all_input_nodes).union(*(behind[source] for source in node.all_input_nodes))
        if is_float(node):
            if last is not None and last not in behind[node]:
                return False
            last = node
    return True


def _every_tensor(traced: fx.GraphModule, numbered: Numbered) -> list[Slot]:
    inner: set[fx.Node] = set()
    found: list[Slot] = []
    for node in _counted(traced) if numbered.late else traced.graph.nodes:
        if not is_float(node) or node in inner or (not numbered.flat and _is_flat(traced, node)):
            continue
        chain = fused(traced, node, numbered.weights)
        inner.update(chain)
        if numbered.weights and isinstance(module_at(traced, node), QUANTIZED_LAYERS):
            found.append(Slot(layer=str(node.target)))
        found.append(Slot(sites=(Site(chain[-1]),)))
    return found


def _counted(traced: fx.GraphModule) -> Iterator[fx.Node]:
    """Nodes in order, but inputs of the network in front of what reads them first."""
    later: set[fx.Node] = set()
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            later.add(node)
            continue
        for source in node.all_input_nodes:
            if source in later:
                later.remove(source)
                yield source
        yield node


def _every_layer(traced: fx.GraphModule, numbered: Numbered) -> list[Slot]:
    layers = [node for node in traced.graph.nodes if isinstance(module_at(traced, node), QUANTIZED_LAYERS)]
    made = {fused(traced, layer, numbered.weights)[-1] for layer in layers}
    found: dict[fx.Node, Slot] = {}
    slots: list[fx.Node | Slot] = []
    for layer in layers:
        x = layer.all_input_nodes[0]
        if x not in found:
            slots.append(x)
        before = found.get(x, Slot())
        found[x] = Slot((Site(x),)) if x in made else replace(before, sites=(*before.sites, Site(x, layer)))
        if numbered.weights:
            slots.append(Slot(layer=str(layer.target)))
    return [slot if isinstance(slot, Slot) else found[slot] for slot in slots]


def _is_flat(traced: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(module_at(traced, node), FLAT_MODULES)
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return target in FLAT_FUNCTIONS
