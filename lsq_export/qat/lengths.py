"""len(x) of a tensor, as the number that it is in a graph: x.shape[0], which varies with the batch.

Python wants a plain integer of `__len__`, so torch.export makes the length of the example of it, for all batches, and
torch.fx gives up. x.reshape(len(x), -1) is a common line. Only the user's own code gets another len: torch traces code
of its own (loops of recurrent layers) by what its functions are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from torch import fx, nn

OTHERS = frozenset({"builtins", "calib", "lsq_export", "torch", *sys.stdlib_module_names}) - {"__main__"}
NAME = "len"


def length(x: Any) -> Any:
    """len(x); of a tensor x.shape[0], whatever kind of number that is; of what torch.fx traces, a node."""
    if isinstance(x, fx.Proxy):
        return x.tracer.create_proxy("call_function", length, (x,), {})
    if isinstance(x, torch.Tensor) and x.dim():
        return x.shape[0]
    return len(x)


@contextmanager
def lengths_as_sizes(model: nn.Module) -> Iterator[None]:
    """Within this block, len is `length` in the modules of the model's classes, and of functions that they import."""
    given = [names for names in _names_of(model) if NAME not in names]
    for names in given:
        names[NAME] = length
    try:
        yield
    finally:
        for names in given:
            names.pop(NAME, None)


def _names_of(model: nn.Module) -> list[dict[str, Any]]:
    """The global names of the user's own code, as far as the model leads there."""
    classes = {cls for module in model.modules() for cls in type(module).__mro__ if _is_own(cls.__module__)}
    own = {cls.__module__ for cls in classes}
    roots = {name.partition(".")[0] for name in own}
    loaded = [(name, module) for name, module in list(sys.modules.items()) if name.partition(".")[0] in roots]
    found = {id(names): names for _, module in loaded if isinstance(names := getattr(module, "__dict__", None), dict)}
    for value in [value for name in own if name in sys.modules for value in vars(sys.modules[name]).values()]:
        if isinstance(value, FunctionType) and _is_own(value.__module__):
            found[id(value.__globals__)] = value.__globals__
    for cls in classes:  # modules that nobody imported by name, as those of importlib
        for value in vars(cls).values():
            if isinstance(value, FunctionType):
                found[id(value.__globals__)] = value.__globals__
    return list(found.values())


def _is_own(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] not in OTHERS
