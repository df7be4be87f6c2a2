"""Names of a quantized network's parts -> places in the graph of the float network.

conv1, layer1.0.relu                 a module
add, x                               an operator of a forward, as torch.fx calls it; an input
silu.sigmoid, silu.mul               the two operators that a SiLU is made of, if such a name asks for them
layer1/0/relu/relu/0, /add/0         a module, the function that it calls, and which of its calls (NNCF)
layer1_0_relu                        a module, as torch.fx calls it
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import fx, nn

from lsq_export.qat.gates import open_gate
from lsq_export.qat.known_types import FLOATS
from lsq_export.qat.node_kinds import NORMS, asks

from .stubs import OBSERVER

_HOOK = re.compile(r"(?P<module>.*)/(?P<function>\w+)/(?P<number>\d+)")


@dataclass(frozen=True)
class Site:
    """Where an activation's grid goes: behind a node, for all of its readers or for one alone."""

    node: fx.Node
    reader: fx.Node | None = None


def is_float(node: fx.Node) -> bool:
    """Whether it gives one tensor of floats, which alone has a grid."""
    return node.op not in ("output", "get_attr") and bool(node.meta.get(FLOATS, False)) and not asks(node)


def module_at(traced: fx.GraphModule, node: fx.Node | None) -> nn.Module | None:
    """The module that a node calls."""
    called = node is not None and node.op == "call_module"
    return traced.get_submodule(str(node.target)) if called and node is not None else None


class Sites:
    """Finds places in a graph.

    follows: a layer's output is behind the batch norm and the ReLU that were fused into it: modules that are its alone
    and that are not apart, for which the file has a grid or tensors.
    """

    def __init__(self, traced: fx.GraphModule, follows: bool = False, apart: Collection[str] = ()) -> None:
        self._traced, self._follows, self._apart = traced, follows, frozenset(apart)
        self._parts: dict[str, fx.Node] = {}

    def of_output(self, name: str) -> list[Site]:
        """Nothing where there is no such place."""
        nodes = self._calls(name)
        return [Site(self._end(node)) for node in nodes]

    def at(self, name: str) -> list[Site]:
        """Behind a module or operator itself, also where a library fused more into it."""
        return [Site(node) for node in self._calls(name)]

    def _end(self, node: fx.Node) -> fx.Node:
        if self._follows:
            for reader in fused(self._traced, node)[1:]:
                if reader.op != "call_module" or reader.target in self._apart:
                    break
                node = reader
        return node

    def of_input(self, name: str) -> list[Site]:
        """In front of the first input of a module or operator, for it alone."""
        return [
            Site(sources[0], node)
            for node in self._calls(name)
            if (sources := [*filter(is_float, node.all_input_nodes)])
        ]

    def layer(self, name: str) -> str | None:
        """The module of a weight."""
        for node in self._calls(name):
            if isinstance(getattr(module_at(self._traced, node), "weight", None), torch.Tensor):
                return str(node.target)
        return None

    def _calls(self, name: str) -> list[fx.Node]:
        nodes = [node for node in self._traced.graph.nodes if is_float(node) or node.op == "call_module"]
        found = [node for node in nodes if node.op == "call_module" and node.target == name]
        found = found or [node for node in nodes if node.op == "call_module" and node.target == f"{name}.{OBSERVER}"]
        found = found or [node for node in nodes if name in (node.name, node.target) and node.op != "call_module"]
        found = found or [node for node in nodes if node.name == name] or self._of_hook(name, nodes)
        owner, _, part = name.rpartition(".")
        if not found and part in ("sigmoid", "mul") and owner:
            self._open(owner)
        return found or ([self._parts[name]] if name in self._parts else [])

    def _of_hook(self, name: str, nodes: list[fx.Node]) -> list[fx.Node]:
        match = _HOOK.fullmatch(name)
        if match is None:
            return []
        module, function = re.sub("[/:]", ".", match["module"]), match["function"]
        of_module = [node for node in nodes if node.op == "call_module" and node.target == module]
        calls = of_module or [n for n in nodes if _scope(n) == module and function in _names_of(n)]
        number = int(match["number"])
        return calls[number : number + 1]

    def _open(self, owner: str) -> None:
        """The gate of x·σ(x), and the product."""
        graph = self._traced.graph
        for node in [n for n in graph.nodes if n.op == "call_module" and n.target == owner]:
            before = set(graph.nodes)
            open_gate(self._traced, node)
            for made in [made for made in graph.nodes if made not in before]:
                made.meta |= {FLOATS: True}
                made.stack_trace = node.stack_trace
                part = "mul" if made.target is torch.mul else "sigmoid"
                self._parts |= {f"{owner}.{part}": made, **({owner: made} if part == "mul" else {})}


def fused(traced: fx.GraphModule, node: fx.Node, every: bool = False) -> list[fx.Node]:
    """A layer or a sum, with the batch norm and the ReLU that alone read it, in this order, as torch.ao fuses them.

    Of a Linear with a batch norm, the ReLU stays apart, and so does torch.relu behind a layer. every: any ReLU is
    fused, as torchao does it, which does not see how the user spelled it.
    """
    chain = [node]
    if isinstance(module_at(traced, node), (nn.modules.conv._ConvNd, nn.Linear)):
        _extend(traced, chain, lambda reader: isinstance(module_at(traced, reader), NORMS))
        if isinstance(module_at(traced, node), nn.Linear) and len(chain) > 1 and not every:
            return chain
        _extend(traced, chain, lambda reader: _is_relu(traced, reader) and (every or reader.target is not torch.relu))
        return chain
    if node.op == "call_function" and "add" in _names_of(node):
        _extend(traced, chain, lambda reader: _is_relu(traced, reader))
    return chain


def _extend(traced: fx.GraphModule, chain: list[fx.Node], fits: object) -> None:
    readers = list(chain[-1].users)
    if len(readers) == 1 and callable(fits) and fits(readers[0]):
        chain.append(readers[0])


def _is_relu(traced: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(module_at(traced, node), nn.ReLU) or bool({"relu", "relu_"} & set(_names_of(node)))


def _names_of(node: fx.Node) -> Iterator[str]:
    """What libraries call the function of a node."""
    if node.op == "call_module":
        return
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    yield target
    yield f"__{target}__"
    yield target.removeprefix("i") if target.startswith("i") else target.removesuffix("_")


def _scope(node: fx.Node) -> str:
    """The path of the module whose forward calls it."""
    if node.op == "call_module":
        return str(node.target)
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""
