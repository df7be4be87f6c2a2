"""Calls that torch's exporter has no operator for, spelled as ones that it knows.

clamp(x, 0.1, 900)       =>  clamp(x, 0.1, 900.0)               it finds no clamp of a float and an integer
amin(x), amax(x)         =>  min(x), max(x)                    of all elements: it wants axes, and torch does not
rrelu(x, lower, upper)   =>  leaky_relu(x, (lower + upper) / 2)    in eval mode
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

CLAMPS = ("clamp", "clamp_", "clip", "clip_", "hardtanh", "hardtanh_", "clamp_min", "clamp_max")
EXTREMES = {"amin": torch.min, "amax": torch.max}
RRELUS = (F.rrelu, torch.rrelu, torch.rrelu_)
NAMES = {*CLAMPS, *EXTREMES, "embedding_bag", *(function.__name__ for function in RRELUS)}


class Spelling(TorchFunctionMode):
    """Within this block, functions of torch are called in ways that its exporter knows."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name not in NAMES:
            return func(*args, **(kwargs or {}))
        kwargs = dict(kwargs or {})
        x = args[0] if args and name in CLAMPS else None
        if isinstance(x, torch.Tensor) and x.dtype.is_floating_point:
            args = (x, *map(_float, args[1:]))
            kwargs = {name: _float(value) for name, value in kwargs.items()}
        extreme = EXTREMES.get(name)
        if extreme and len(args) == 1 and not kwargs:
            return extreme(args[0])
        if func in RRELUS:
            given = dict(zip(("input", "lower", "upper", "training"), args, strict=False)) | kwargs
            if not given.get("training", False):
                return F.leaky_relu(given["input"], (given.get("lower", 1 / 8) + given.get("upper", 1 / 3)) / 2)
        if func is F.embedding_bag:
            return _bags(*args, **kwargs)
        return func(*args, **kwargs)


def _bags(input: torch.Tensor, weight: torch.Tensor, *more: Any, **options: Any) -> torch.Tensor:
    """What torch.nn.functional.embedding_bag computes."""
    weights, padding = options.get("per_sample_weights"), options.get("padding_idx")
    mode = options.get("mode", "mean")
    if more or input.dim() != 2 or options.get("max_norm") is not None or (padding is not None and mode == "max"):
        return F.embedding_bag(input, weight, *more, **options)
    found: torch.Tensor = F.embedding(input, weight)
    if weights is not None:
        found = found * weights[..., None]
    if padding is None:
        return found.mean(1) if mode == "mean" else found.sum(1) if mode == "sum" else found.amax(1)
    kept = (input != padding).to(found.dtype)
    total: torch.Tensor = (found * kept[..., None]).sum(1)
    return total if mode == "sum" else total / kept.sum(1, keepdim=True).clamp(min=1.0)


def _float(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
