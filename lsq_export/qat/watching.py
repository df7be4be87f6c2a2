"""A graph of a model whose forward Python decides on: the forward runs once on an example, and what it calls is noted.

    if x.shape[0] > 1, isinstance(x, …), for part in x.unbind(1), **kwargs, dataclasses, assertions on inputs

Values are real tensors, so whatever Python does with them works; a TorchFunctionMode sees each function of torch, and
modules that are leaves note their calls. Sizes stay what the graph asks its inputs for (sizes.py). What the example
alone decides would be wrong for other inputs, and is refused: a branch on values, other than a check (assertions.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.overrides import TorchFunctionMode

from calib.samples import Input, arguments_of, parameters_of

from .assertions import CHECKS, in_check
from .graph_writer import GraphWriter
from .layer_types import FLOAT_LAYERS
from .layer_types import QUANTIZED_LAYERS as LAYERS
from .modes import NORMS, Training, modes_kept
from .sizes import sizes_of
from .torch_calls import (
    ASKS,
    FACTS,
    RANDOM,
    READS,
    Depends,
    leaves,
    name_of,
    plain,
    target_of,
)
from .user_code import user_frame

NORM_ARGUMENTS = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


def replaced(x: torch.Tensor, index: Any, value: Any) -> torch.Tensor:
    """A copy of x with x[index] = value."""
    x = x.clone()
    x[index] = value
    return x


def watched(model: nn.Module, example: Input) -> tuple[fx.Graph, list[str]]:
    """(graph of what the model, in eval mode, makes of the example; lines that branch on whether it is training).

    Its modules are as before afterwards, but for those that take the place of functions with a mode.

    Errors: whatever the forward raises; Depends.
    """
    args, kwargs = arguments_of(model, example)
    names = [p.name for p in parameters_of(model) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    taken = {**dict(zip(_enough(names, len(args)), args, strict=False)), **kwargs}
    recorder = _Recorder(model)
    for name, tensor in taken.items():
        recorder.take(name, tensor)
    with recorder.watching(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        with recorder:
            result = model(*args, **kwargs)
        for name, module in recorder.added.items():  # only now: a Sequential's forward goes through its modules
            model.add_module(name, module)
        recorder.graph.output(recorder.argument(result))
    _drop_unread(recorder.graph)
    recorder.graph.lint()
    return recorder.graph, sorted(recorder.asked)


def _enough(names: Sequence[str], count: int) -> list[str]:
    """Of so many positional arguments, those of *args among them."""
    return [*names[:count], *(f"input_{index}" for index in range(len(names), count))]


class Mode(nn.Module):
    """Whether the graph trains, as a norm that computes by a function asks."""

    def forward(self) -> bool:
        """The module's mode."""
        return self.training


class _Recorder(GraphWriter, TorchFunctionMode):
    def __init__(self, model: nn.Module) -> None:
        GraphWriter.__init__(self, model)
        TorchFunctionMode.__init__(self)
        self.asked: set[str] = set()
        self.added: dict[str, nn.Module] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Modules note their calls and are in eval mode."""
        inside: set[nn.Module] = set()
        with modes_kept(self.model):
            for name, module in self.model.named_modules():
                if module in inside:
                    module.training = False
                    continue
                leaf = _is_leaf(module)
                if leaf:
                    inside.update(module.modules())
                module.__dict__["training"] = False if leaf else Training.of(module, self.asked)
                # what torch.compile puts in place of a module's call
                module.__dict__["_compiled_call_impl"] = self._call(name, module, leaf)
            try:
                yield
            finally:
                for module in self.model.modules():
                    module.__dict__.pop("_compiled_call_impl", None)

    def _call(self, name: str, module: nn.Module, leaf: bool) -> Callable[..., Any]:
        function: Callable[..., Any] = module._call_impl

        def call(*args: Any, **kwargs: Any) -> Any:
            self.scopes.append((name, type(module)))
            try:
                if not leaf:
                    return function(*args, **kwargs)
                with torch._C.DisableTorchFunction():
                    given = plain(args), plain(kwargs)
                    value = function(*given[0], **given[1])
                return self._note(value, "call_module", name, args, kwargs)
            finally:
                self.scopes.pop()

        return call

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs, name = dict(kwargs or {}), name_of(func)
        if func is F.dropout or (name in ("dropout1d", "dropout2d", "dropout3d") and func is getattr(F, name, None)):
            return self._dropout(func, args, kwargs)
        if name == "__setitem__" or (name.endswith("_") and not name.endswith("__")):
            self._keep_before(args)
        value = func(*plain(args), **plain(kwargs))
        if func is F.batch_norm and self._owner() is not None:
            return self._norm(value, args, kwargs)
        if name in FACTS or name in CHECKS:
            return value
        x = args[0] if args else None
        if name in ASKS and isinstance(x, torch.Tensor):
            return sizes_of(value, lambda: self._asked(name, x, args[1:], kwargs)) if self.traced(x) else value
        if name in READS:
            self._check_read(args)
            return value
        if name not in RANDOM and not any(map(self.traced, leaves((args, kwargs)))):
            return value
        if name == "__setitem__":
            node = self.create("call_function", replaced, args, {})
            self.known[id(x)] = x, node  # type: ignore[assignment]
            return value
        return self._note(value, *target_of(func, name, args), kwargs)

    def _owner(self) -> nn.Module | None:
        """The norm whose forward runs."""
        module = self.model.get_submodule(self.scopes[-1][0]) if self.scopes else None
        return module if isinstance(module, NORMS) and module.track_running_stats else None

    def _norm(self, value: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        """A batch norm of the user's own that computes by the function: in training, by the batch."""
        given = dict(zip(NORM_ARGUMENTS, args, strict=False)) | kwargs
        owner = self._owner()
        name = self._new("_mode")
        before = getattr(getattr(owner, "training", None), "before", False)
        self.added[name] = Mode().train(before)
        given["training"] = self.graph.call_module(name)
        x = given.pop("input")
        self._note(value, "call_function", F.batch_norm, (x,), given)
        return value

    def _new(self, kind: str) -> str:
        """A name that no module has yet."""
        known = (*self.model._modules, *self.added)
        return f"{kind}_{sum(name.startswith(f'{kind}_') for name in known)}"

    def _keep_before(self, args: tuple[Any, ...]) -> None:
        """A constant that is about to be changed in place is written as it is now."""
        if any(map(self.traced, leaves(args))):
            for x in leaves(args):
                if isinstance(x, torch.Tensor):
                    self.argument(x)

    def _dropout(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One that follows the module's mode becomes a module; the model is in eval mode now."""
        given = dict(zip(("input", "p", "training", "inplace"), args, strict=False)) | kwargs
        x, training, p = given["input"], given.get("training", func is F.dropout), given.get("p", 0.5)
        if isinstance(training, Training):
            name = self._new("_dropout")
            self.added[name] = getattr(nn, func.__name__.capitalize())(p).train(training.before)
            return self._note(x.clone(), "call_module", name, (x,), {})
        return self._note(func(x, p, False), "call_function", func, (x, p, True), {}) if training else x

    def _check_read(self, args: tuple[Any, ...]) -> None:
        """A number that decides what Python does: of inputs, for checks alone; of parameters, never."""
        tensors = [x for x in leaves(args) if isinstance(x, torch.Tensor)]
        nodes = [self.known[id(x)][1] for x in tensors if id(x) in self.known]
        parameters = [x for x in tensors if isinstance(x, nn.Parameter)]
        if (any(node.meta.get("data") for node in nodes) or parameters) and not in_check(frame := user_frame()):
            raise Depends("what it computes depends on the values of a tensor, of which a graph knows nothing", frame)

    def _asked(self, name: str, x: torch.Tensor, more: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        node = self.argument(x)
        if name == "shape":
            return self.graph.call_function(getattr, (node, "shape"))
        return self.graph.call_method(name, (node, *plain(more)), kwargs)

    def _note(self, value: Any, kind: str, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        node = self.create(kind, target, args, kwargs)
        self.give(value, node)
        return value


def _is_leaf(module: nn.Module) -> bool:
    """A layer, or a module of torch's without layers in it."""
    if isinstance(module, (*LAYERS, *FLOAT_LAYERS)):
        return True
    of_torch = type(module).__module__.startswith(("torch.nn", "torch.ao.nn"))
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    return of_torch and not isinstance(module, containers) and not any(isinstance(m, LAYERS) for m in module.modules())


def _drop_unread(graph: fx.Graph) -> None:
    """What only checks have read, and parts of results that nobody reads."""
    for node in reversed(list(graph.nodes)):
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        changes = name.endswith("_") and not name.endswith("__")
        if not node.users and node.op in ("call_function", "call_method", "get_attr") and not changes:
            graph.erase_node(node)
