"""Streaming statistics of a tensor: one pass, bounded memory, any number of batches.

The distribution is kept as a limited number of weighted points. Neighbors i and j = i + 1 merge into their mean where
that costs least (Ward's criterion), that is, where it adds least to Σ (x - v(x))², v(x) the point that stands for x:

    cost(i, j) = n_i·n_j / (n_i + n_j) · (v_i - v_j)²

So points are dense where the data are (∝ density^(1/3), as in Panter and Dite's quantizer), and an outlier takes one
point, but none of the resolution of the rest. The costs add up exactly to `loss` = Σ (x - v(x))². The error of every
grid on the points is close to that on the samples (distances to a grid are 1-Lipschitz):

    |√E_samples - √E_points| <= √(loss / count)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from calib.errors import QuantizationError
from calib.workers import workers

POINTS = 4096  # 16 for each code of an 8-bit grid
CHUNK = 1 << 20  # elements converted to float64 at a time


@dataclass(frozen=True)
class Points:
    """A distribution as weighted points: values ascending, counts > 0; both float64, shape [P]."""

    values: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Statistics of some elements. deviation: Σ (x - mean)². loss: that of their points."""

    count: int
    sum: float
    abs_sum: float
    deviation: float
    points: Points
    loss: float


class Observer:
    """min, max, mean |x|, mean, std and the weighted points of everything that `update` saw.

    limit: how many points are kept. loss: see above, in squared units of the tensor.
    """

    def __init__(self, name: str = "tensor", limit: int = POINTS) -> None:
        self.name, self.limit = name, limit
        self.count = 0
        self.min, self.max = math.inf, -math.inf
        self.loss = 0.0
        self._sum = self._abs_sum = self._deviation = 0.0  # _deviation: Σ (x - mean)²
        self._points = Points(np.empty(0), np.empty(0))

    @property
    def mean(self) -> float:
        return self._sum / self.count

    @property
    def mean_abs(self) -> float:
        return self._abs_sum / self.count

    @property
    def std(self) -> float:
        """Standard deviation of the population."""
        return math.sqrt(self._deviation / self.count)

    @property
    def max_abs(self) -> float:
        return max(abs(self.min), abs(self.max))

    @torch.no_grad()
    def update(self, x: torch.Tensor) -> None:
        """Add every element of x (any shape, a float type). Not-finite values are an error."""
        if x.numel() == 0:
            return
        flat = x.detach().flatten()
        low, high = finite_range(self.name, flat)
        self.min, self.max = min(self.min, low), max(self.max, high)
        chunks = torch.split(flat, CHUNK)
        if len(chunks) == 1 or flat.is_cuda:
            for chunk in chunks:
                self._add(_part(chunk, 2 * self.limit))
            return
        with workers() as run:
            for part in run([partial(_part, chunk, 2 * self.limit) for chunk in chunks]):
                self._add(part)

    def _add(self, x: _Part) -> None:
        deviation = x.deviation
        if self.count:  # Chan's update of Σ (x - mean)²
            deviation += (x.sum / x.count - self.mean) ** 2 * self.count * x.count / (self.count + x.count)
        self.count, self._sum, self._deviation = self.count + x.count, self._sum + x.sum, self._deviation + deviation
        self._abs_sum += x.abs_sum
        values, where = np.unique(np.concatenate((self._points.values, x.points.values)), return_inverse=True)
        counts = np.bincount(where, weights=np.concatenate((self._points.counts, x.points.counts)))
        self._points, merging = merged(Points(values, counts), self.limit)
        self.loss += x.loss + merging

    def points(self) -> Points:
        """At most `limit` points; exactly the values seen, as long as there are no more different ones."""
        return self._points


def points_of(row: np.ndarray, limit: int) -> Points:
    """The points of an `Observer` that saw these ascending values, of a float type, at once, and nothing else."""
    x = torch.from_numpy(row).double()
    few = x.numel() <= 2 * limit
    grouped = _singles(x) if few else _used(*_means(x, _groups(x, 2 * limit)))
    values, counts = grouped.values, grouped.counts
    if not (values[1:] > values[:-1]).all():
        first = np.flatnonzero(np.diff(values, prepend=-math.inf))  # of each different value
        values, counts = values[first], np.add.reduceat(counts, first)
    return merged(Points(values, counts), limit)[0]


def finite_range(name: str, x: torch.Tensor) -> tuple[float, float]:
    """(smallest, largest) element of x, which is not empty. Errors (QuantizationError): NaN or infinity."""
    low, high = (float(v) for v in torch.aminmax(x))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise QuantizationError(
            f"{name}: values are not finite (NaN or infinity); check the model and the calibration batches"
        )
    return low, high


def _part(chunk: torch.Tensor, groups: int) -> _Part:
    x = _sorted(chunk).double()
    total = float(x.sum())
    points, loss = _grouped(x, groups)
    return _Part(
        count=x.numel(),
        sum=total,
        abs_sum=float(x.abs().sum()),
        deviation=float((x - total / x.numel()).square().sum()),
        points=points,
        loss=loss,
    )


def _sorted(x: torch.Tensor) -> torch.Tensor:
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if x.is_cuda:
        return x.sort().values
    return torch.from_numpy(np.sort(x.numpy()))  # numpy's sort has vector instructions


def _grouped(x: torch.Tensor, groups: int) -> tuple[Points, float]:
    """Ascending samples [n] as at most `groups` means of neighbors, and what that adds to the loss.

    The groups have equal shares of Σ gap^(2/3).
    """
    if x.numel() <= groups:
        return _singles(x), 0.0
    index = _groups(x, groups)
    means, counts = _means(x, index)
    return _used(means, counts), float((x - means[index]).square().sum())


def _groups(x: torch.Tensor, groups: int) -> torch.Tensor:
    """The group of each of the ascending samples, [n]."""
    length = torch.diff(x, prepend=x[:1]).pow_(2 / 3)  # [n]
    for _ in range(3):
        # However wide a gap is, one border in it is enough, and with the factor 2 there certainly is one.
        length.clamp_(max=2 * float(length.sum()) / groups)
    length.cumsum_(0)
    return length.mul_((groups - 1) / max(float(length[-1]), 1e-300)).long()


def _means(x: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(means, counts) of the groups."""
    counts = torch.bincount(index)
    return torch.bincount(index, weights=x) / counts.clamp(min=1), counts


def _used(means: torch.Tensor, counts: torch.Tensor) -> Points:
    """Without the groups that nothing is in."""
    number = counts.cpu().numpy()
    used = np.flatnonzero(number)
    return Points(means.cpu().numpy()[used], number[used].astype(np.float64))


def _singles(x: torch.Tensor) -> Points:
    return Points(x.cpu().numpy(), np.ones(x.numel()))


def merged(points: Points, limit: int) -> tuple[Points, float]:
    """At most `limit` points, and what merging them adds to the loss."""
    values, counts, loss = points.values, points.counts, 0.0
    while len(values) > limit:
        cost = _costs(values, counts)
        excess = len(values) - limit
        cheap = cost <= np.partition(cost, excess - 1)[excess - 1]
        place = np.arange(len(cost))
        run = place - np.maximum.accumulate(np.where(cheap, -1, place))  # 1, 2, 3, … in a run of cheap pairs, else 0
        left = np.flatnonzero(run & 1)  # a point merges once a round
        loss += float(cost[left].sum())
        both = counts[left] + counts[left + 1]
        means = values[left] + (values[left + 1] - values[left]) * (counts[left + 1] / both)
        stays = np.ones(len(values), bool)
        stays[left + 1] = False
        rest = np.flatnonzero(stays)
        place = left - np.arange(len(left))  # of the pairs among the rest: as many points went before each
        values, counts = values[rest], counts[rest]
        values[place], counts[place] = means, both
    return Points(values, counts), loss


def _costs(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Of merging each point with the next one."""
    left, right = counts[:-1], counts[1:]
    cost: np.ndarray = left * right
    gap = values[1:] - values[:-1]
    cost /= left + right
    gap *= gap
    cost *= gap
    return cost
