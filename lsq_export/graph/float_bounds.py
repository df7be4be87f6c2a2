"""torch's exporter finds no clamp for bounds of which one is a float and one an integer: both become floats for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

CLAMPS = ("clamp", "clamp_", "clip", "clip_", "hardtanh", "hardtanh_", "clamp_min", "clamp_max")


class FloatBounds(TorchFunctionMode):
    """Within this block, clamps of floats have bounds of floats."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        x = args[0] if args and getattr(func, "__name__", "") in CLAMPS else None
        if isinstance(x, torch.Tensor) and x.dtype.is_floating_point:
            args = (x, *map(_float, args[1:]))
            kwargs = {name: _float(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)


def _float(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
