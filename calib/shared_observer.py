"""Statistics of data that several processes share: those of one process that sees all of it.

Each `update` agrees on the range first, so that all processes have the bins that one process would have; counts then add up exactly, sums but for the
order of their float64 additions.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist

from .observers import Observer


class SharedObserver(Observer):
    """Every process of the default group calls `update` equally often, with its share of the same tensor (which may be empty), then `merged`."""

    def __init__(self, name: str = "tensor", device: torch.device | str = "cpu") -> None:
        """device: that the group's backend can reach."""
        super().__init__(name)
        self._reach = device

    def merged(self) -> Observer:
        whole = Observer(self.name)
        whole.min, whole.max, whole._low, whole._width = self.min, self.max, self._low, self._width
        whole._counts, whole._sums = self._total(self._counts), self._total(self._sums)
        count, whole._sum, whole._abs_sum = self._total(torch.tensor([self.count, self._sum, self._abs_sum], dtype=torch.float64)).tolist()
        whole.count = int(count)
        if whole.count:
            between = self.count * (self.mean - whole.mean) ** 2 if self.count else 0.0  # Σ (x - mean)² around another mean
            whole._deviation = float(self._total(torch.tensor([self._deviation + between], dtype=torch.float64)))
        return whole

    def _range(self, x: torch.Tensor) -> tuple[float, float]:
        low, high = super()._range(x)
        if math.isnan(low) or math.isnan(high):  # an infinity on all ranks is an error on all ranks
            low, high = -math.inf, math.inf
        limits = torch.tensor([low, -high], dtype=torch.float64, device=self._reach)
        dist.all_reduce(limits, dist.ReduceOp.MIN)
        return float(limits[0]), -float(limits[1])

    def _total(self, x: torch.Tensor) -> torch.Tensor:
        total = x.to(self._reach, copy=True)
        dist.all_reduce(total)
        return total.cpu()
