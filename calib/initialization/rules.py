"""The rules that give one quantizer its first grid.

Activations, with n and p the smallest and the largest code:

    minmax   s = (max - min) / (p - n), β = min - n·s      LSQ+, its min-max initialization
             symmetric: s = max|x| / p, for unsigned codes max(x) / p, β = 0
    percentile   as minmax, without the lowest 0.01 % of the values and the highest
    lsq      s = 2·mean|x| / √p, β = 0                     LSQ part 2.1
    mse      argmin over s, β of ‖x̂ - x‖²                  LSQ+, see `calib.initialization.search`

LSQ has no offset, so by its rule asymmetric grids start at β = 0, too.

Weights, per tensor or per channel:

    lsq+     s = max|μ ± 3σ| / 2^(b-1)                     LSQ+
    mse      argmin over s of ‖ŵ - w‖²                     exact, see `calib.initialization.scale`

A tensor for which a rule gives no usable scale (constant, all zeros, all below zero) still gets a positive one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from calib.errors import QuantizationError
from calib.quantized import Quantized
from calib.statistics.observers import Observer, Points, points_of

from .objective import OffsetRule
from .row_scales import best_scales
from .scale import MANY, best_scale
from .search import best_grid

Method = Literal["minmax", "percentile", "lsq", "mse"]
WeightMethod = Literal["lsq+", "mse"]
RESOLUTION = 2.0**-20  # a range below this share of max|x| counts as a constant: float32 could not tell its codes apart
CHANNEL_POINTS = 1024  # that stand for the weights of one channel, where there are many codes
OUTSIDE = 1e-4  # share of the values that a percentile leaves out, on either side
TINY = 1e-30  # a scale below this is no scale


def weight_scale(quantizer: Quantized, weight: torch.Tensor, method: WeightMethod) -> torch.Tensor:
    """s by one of the methods, shape [] or [C].

    σ is that of the population. A channel of zeros gets the mean scale of the others. Errors (QuantizationError): NaN
    or infinity among the weights.
    """
    rows = weight.detach().flatten(1) if quantizer.axis == 0 else weight.detach().reshape(1, -1)  # [C or 1, elements]
    if not bool(torch.isfinite(rows).all()):
        raise QuantizationError(
            f"{quantizer.name}: values are not finite (NaN or infinity); check the weights of the model"
        )
    largest = 2 ** (quantizer.bits - 1)
    if method == "mse":
        scale = torch.tensor(_mse_scales(quantizer, rows), dtype=torch.float64, device=rows.device)
    else:
        wide = rows.double()
        scale = (wide.mean(1).abs() + 3 * wide.std(1, correction=0)) / largest  # max|μ ± 3σ| = |μ| + 3σ
    usable = scale > TINY
    fallback = scale[usable].mean() if bool(usable.any()) else scale.new_tensor(1 / largest)
    return torch.where(usable, scale, fallback).reshape(quantizer.scale.shape)


def _mse_scales(quantizer: Quantized, rows: torch.Tensor) -> list[float]:
    """The best s of each row; 0 where there is none (zeros)."""
    if quantizer.axis is None:
        seen = Observer(quantizer.name)
        seen.update(rows)
        return [_best(quantizer, seen.points())]
    ascending = np.sort(rows.cpu().to(torch.promote_types(rows.dtype, torch.float32)).numpy(), axis=1)
    if quantizer.qmax - quantizer.qmin < MANY:
        return list(map(float, best_scales(ascending, quantizer.qmin, quantizer.qmax)))
    return [_best(quantizer, points_of(row, CHANNEL_POINTS)) for row in ascending]


def _best(quantizer: Quantized, points: Points) -> float:
    far = max(abs(float(points.values[0])), abs(float(points.values[-1])))
    best = best_scale(points, quantizer.qmin, quantizer.qmax) if far > TINY else None
    return best[0] if best else 0.0


def activation_grid(quantizer: Quantized, seen: Observer, method: Method) -> tuple[float, float]:
    """(s, β) by one of the methods, but where the grid is fixed."""
    if quantizer.fixed is not None:
        return quantizer.fixed
    if not quantizer.holds_zero:
        return _grid(quantizer, seen, method)
    Observer.update(seen, torch.zeros(1))  # not a share of the data: the same in every process
    scale, offset = _grid(quantizer, seen, method)
    holds = scale * quantizer.qmin + offset <= 0 <= scale * quantizer.qmax + offset
    return (scale, offset) if holds else _minmax(quantizer, seen)


def _grid(quantizer: Quantized, seen: Observer, method: Method) -> tuple[float, float]:
    if method != "mse":
        return RULES[method](quantizer, seen)
    if seen.max - seen.min <= RESOLUTION * seen.max_abs:
        return _minmax(quantizer, seen)
    starts = [_minmax(quantizer, seen), _lsq(quantizer, seen)]
    return best_grid(seen.points(), quantizer.qmin, quantizer.qmax, _offset_rule(quantizer), starts)


def _offset_rule(quantizer: Quantized) -> OffsetRule:
    if quantizer.symmetric:
        return "none"
    return "integer" if quantizer.integer_offset and quantizer.offset_steps == 1 else "real"


def _minmax(quantizer: Quantized, seen: Observer) -> tuple[float, float]:
    return _spanning(quantizer, seen, seen.min, seen.max)


def _percentile(quantizer: Quantized, seen: Observer) -> tuple[float, float]:
    points = seen.points()
    below = np.cumsum(points.counts) / points.counts.sum()  # share of the values up to each point
    low = int(np.searchsorted(below, OUTSIDE, side="right"))
    high = int(np.searchsorted(below, 1 - OUTSIDE))
    return _spanning(quantizer, seen, float(points.values[low]), float(points.values[min(high, len(below) - 1)]))


def _spanning(quantizer: Quantized, seen: Observer, low: float, high: float) -> tuple[float, float]:
    """The grid whose codes reach from low to high."""
    n, p = quantizer.qmin, quantizer.qmax
    if quantizer.symmetric:
        top = max(high, 0.0) if n == 0 else max(abs(low), abs(high))
        return _usable(top / p, seen, p), 0.0
    spread = high - low
    scale = _usable(spread / (p - n) if spread > RESOLUTION * seen.max_abs else 0.0, seen, p - n)
    return scale, low - n * scale


def _lsq(quantizer: Quantized, seen: Observer) -> tuple[float, float]:
    return _usable(2 * seen.mean_abs / math.sqrt(quantizer.qmax), seen, quantizer.qmax), 0.0


def _usable(scale: float, seen: Observer, codes: int) -> float:
    """The scale, or, where there is none, one that spreads [0, max|x|] over the codes, [0, 1] for a tensor of zeros."""
    if scale > TINY:
        return scale
    return (seen.max_abs if seen.max_abs / codes > TINY else 1.0) / codes


RULES: dict[str, Callable[[Quantized, Observer], tuple[float, float]]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "lsq": _lsq,
}
