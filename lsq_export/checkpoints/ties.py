"""What a library that rounds halves away from zero does otherwise: integers round them to even.

Counted on data, for each grid: values that lie exactly between two of its codes, and inside of its range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx

from calib.samples import called
from lsq_export.adoption.left import Left
from lsq_export.qat.quantizer import Quantizer

from .learned import Learned


def rounded_otherwise(traced: fx.GraphModule, grids: Mapping[str, Learned], example: Any) -> Iterator[Left]:
    """A line for each grid of activations that rounds otherwise. grids: {quantizer: its grid}."""
    wanted = {name: grid for name, grid in grids.items() if grid.raw.rounding != "half-even"}
    counts = dict.fromkeys(wanted, (0, 0))

    def count(name: str, quantizer: Quantizer, x: torch.Tensor) -> None:
        steps = (x - quantizer.offset) / quantizer.scale
        inside = (steps > quantizer.qmin - 0.5) & (steps < quantizer.qmax + 0.5)
        between = inside & (steps - steps.floor() == 0.5)
        ties, values = counts[name]
        counts[name] = ties + int(between.sum()), values + x.numel()

    hooks = [
        traced.get_submodule(name).register_forward_hook(lambda q, args, _, name=name: count(name, q, args[0]))
        for name in wanted
    ]
    try:
        if wanted:
            with torch.no_grad():
                called(traced, example)
    finally:
        for hook in hooks:
            hook.remove()
    for name, (ties, values) in counts.items():
        yield Left(
            wanted[name].raw.name,
            f"rounds halves away from zero, integers to even: {ties} of {values} values of the first batch are halves",
        )
