"""Quantizers that were counted to their places: whether their ranges are those of the tensors there.

The count can fit by chance. Then the values there are far wider than the grid, or it has no codes for many of them,
which a line says.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import fx

from calib.samples import called
from lsq_export.adoption.left import Left
from lsq_export.qat.quantizer import Quantizer

FAR = 32  # times as wide; means of what made a grid are much narrower, and share it
BELOW = 0.25  # of a range below zero, where the grid has nothing there


def odd_ranges(traced: fx.GraphModule, grids: Collection[str], example: Any) -> Iterator[Left]:
    """A line for each quantizer whose range is another one. grids: names of quantizers."""
    for name, (low, high) in _seen(traced, grids, example).items():
        quantizer = traced.get_submodule(name)
        assert isinstance(quantizer, Quantizer)
        step = float(quantizer.scale)
        ratio = (high - low) / (step * (quantizer.qmax - quantizer.qmin))
        lost = quantizer.qmin == 0 and -low > BELOW * (high - low)
        if lost or ratio > FAR:
            yield Left(
                name,
                f"it may be of another tensor: its grid reaches from {quantizer.qmin * step:.3g} to "
                f"{quantizer.qmax * step:.3g}, the first batch there from {low:.3g} to {high:.3g}; [places] of a "
                "mapping file says where it is",
            )


def odd_logarithms(traced: fx.GraphModule, trained: Mapping[str, float], example: Any) -> Iterator[Left]:
    """A line, where trained ranges are rather logarithms of what the first batch has. trained: {quantizer: number}."""
    far_off, as_logarithms = 0.0, 0.0
    for name, (low, high) in _seen(traced, trained, example).items():
        widest = max(-low, high)
        if trained[name] > 0 and widest > 0:
            far_off += (math.log2(widest) - math.log2(trained[name])) ** 2
            as_logarithms += (math.log2(widest) - trained[name]) ** 2
    if as_logarithms < far_off:
        yield Left(
            "activations",
            "their ranges fit the first batch better as logarithms than as they are: if that is what they are, say "
            'ranges = "log2" or "power-of-two" in a mapping file, else "linear"',
        )


def _seen(traced: fx.GraphModule, grids: Collection[str], example: Any) -> dict[str, tuple[float, float]]:
    """{quantizer: (least, largest) of the values of the first batch there, and 0}."""
    seen: dict[str, tuple[float, float]] = {}

    def look(name: str, x: torch.Tensor) -> None:
        low, high = seen.get(name, (0.0, 0.0))
        seen[name] = min(low, float(x.min())), max(high, float(x.max()))

    hooks = [
        traced.get_submodule(name).register_forward_pre_hook(lambda q, args, name=name: look(name, args[0]))
        for name in grids
    ]
    try:
        if hooks:
            with torch.no_grad():
                called(traced, example)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
