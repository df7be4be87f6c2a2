"""A graph of torch.fx that is written while a model runs: which tensor is what node, and what arguments become."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from .modes import Training
from .sizes import Size
from .torch_calls import Depends, has_tensors
from .user_code import lines

KEPT = (*fx.node.base_types, type(None), type(...), type)  # constants in a graph


class GraphWriter:
    """graph: what was written. model: whose parameters and buffers it reads; constants become buffers of it."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.graph = model, fx.Graph()
        self.known: dict[int, tuple[torch.Tensor, fx.Node]] = {}
        self.scopes: list[tuple[str, type]] = []
        self._device: fx.Node | None = None
        tensors = (*model.named_parameters(), *model.named_buffers())
        self._owned = {id(tensor): name for name, tensor in reversed(tensors)}

    def take(self, name: str, tensor: torch.Tensor) -> None:
        """An input."""
        node = self.graph.placeholder(name)
        node.meta["data"] = True
        self.known[id(tensor)] = tensor, node

    def traced(self, value: Any) -> bool:
        """Whether a value has a node, or is the model's own."""
        return isinstance(value, Size) or id(value) in self.known or id(value) in self._owned

    def create(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> fx.Node:
        """A node with the module and the line of the user's that it comes from."""
        given = self.argument(tuple(args)), self.argument(dict(kwargs))
        node = self.graph.create_node(kind, target, *given)
        node.meta["data"] = any(source.meta.get("data") for source in node.all_input_nodes)
        node.meta["nn_module_stack"] = {name: (name, kind) for name, kind in self.scopes}
        node.stack_trace = lines()
        return node

    def give(self, value: Any, node: fx.Node) -> None:
        """Every tensor in a result becomes known as a part of its node."""
        if isinstance(value, torch.Tensor):
            if not torch.is_grad_enabled() and node.op != "call_module" and value.is_floating_point():
                node = self._part("call_method", "detach", (node,), node)
            self.known[id(value)] = value, node
        elif isinstance(value, (tuple, list)):
            for index, part in enumerate(value):
                if has_tensors(part):
                    self.give(part, self._part("call_function", operator.getitem, (node, index), node))
        elif isinstance(value, Mapping):
            for key, part in value.items():
                if has_tensors(part):
                    self.give(part, self._part("call_function", operator.getitem, (node, key), node))

    def _part(self, kind: str, target: Any, args: tuple[Any, ...], whole: fx.Node) -> fx.Node:
        node = self.graph.create_node(kind, target, args)
        node.meta, node.stack_trace = dict(whole.meta), whole.stack_trace
        return node

    def argument(self, value: Any) -> Any:
        """The same form with nodes in place of what is known."""
        if isinstance(value, Size):
            return value.node
        if isinstance(value, fx.Node):
            return value
        if isinstance(value, torch.Tensor):
            return self._node_of(value)
        if isinstance(value, torch.device):
            return self._own_device(value)
        if isinstance(value, Training):
            return False
        if isinstance(value, slice):
            return slice(*map(self.argument, (value.start, value.stop, value.step)))
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            given = {f.name: self.argument(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return self.graph.call_function(type(value), (), given)
        if isinstance(value, Mapping):
            return {key: self.argument(part) for key, part in value.items()}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return self.graph.call_function(type(value), tuple(map(self.argument, value)))
        if isinstance(value, (tuple, list)):
            return (list if isinstance(value, list) else tuple)(map(self.argument, value))
        if not isinstance(value, KEPT):
            raise Depends(f"it hands on a {type(value).__name__}", None)
        return value

    def _node_of(self, tensor: torch.Tensor) -> fx.Node:
        if id(tensor) in self.known:
            return self.known[id(tensor)][1]
        name = self._owned.get(id(tensor))
        if name is None:
            name = f"_constant_{len([name for name in self.model._buffers if name.startswith('_constant_')])}"
            self.model.register_buffer(name, tensor.detach().clone(), persistent=False)
        node = self.graph.get_attr(name)
        self.known[id(tensor)] = tensor, node
        return node

    def _own_device(self, device: torch.device) -> Any:
        """That of the first input, wherever it will be."""
        first = next((pair for pair in self.known.values() if pair[1].op == "placeholder"), None)
        if first is None or first[0].device != device:
            return device
        if self._device is None:
            self._device = self.graph.call_function(getattr, (first[1], "device"))
        return self._device
