"""Which codes a grid has, from the range that its observer last saw: the scale was made of it, and of the codes.

affine      s = (max - min) / (last - first)     z = first - round(min / s), 0 being in the range
symmetric   s = max|x| / ((last - first) / 2)    FakeQuantize
            s = max(max / half, min / -half)     FusedMovingAvgObsFakeQuantize, of torch.ao's defaults and of torchao;
                                                 half: 2^(b-1) - 1 and 2^(b-1), narrower codes are as much wider;
                                                 a channel of one sign is affine there, with a zero point

Activations count as affine: one that is never negative would fit 4 bits unsigned and 5 bits symmetric.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

LOWEST, HIGHEST = "activation_post_process.min_val", "activation_post_process.max_val"
NEAR = 1e-4  # relative: of 255 and 254 steps one is meant
WIDTHS = range(2, 9)
Codes = tuple[int, int]
FLOOR = "activation_post_process.eps"
FIXED = "activation_post_process.scale"  # of torch.ao's grids of sigmoids and the like, which have all 8 bits
SWITCH = "fake_quant_enabled"  # a byte, and of the fused quantizer 8
LEAST = 2e-7  # torch's own floor; scales at it come from no range


def observed_codes(
    values: Mapping[str, Any], scale: np.ndarray, zero_point: np.ndarray | None, weight: bool
) -> tuple[int, int] | None:
    """(first, last), where the range, the scale and the zero point agree on them; else None.

    scale, zero_point: [1] or [C].
    """
    if FIXED in values:
        return 0, 255
    if not {LOWEST, HIGHEST} <= values.keys() or zero_point is None or (zero_point != np.rint(zero_point)).any():
        return None
    low, high = (np.asarray(values[name], np.float64).reshape(-1) for name in (LOWEST, HIGHEST))
    if low.shape != scale.shape or high.shape != scale.shape or not np.isfinite([low, high]).all():
        return None
    alive = (high != low) & (scale > float(np.max(values.get(FLOOR, LEAST))) * (1 + NEAR))
    fused = np.asarray(values.get(SWITCH, 0)).dtype.itemsize > 1
    if weight and fused:
        alive &= (low < 0) & (high > 0)
    if not alive.any():
        return None
    low, high = np.minimum(low, 0)[alive], np.maximum(high, 0)[alive]
    zero = np.broadcast_to(zero_point, scale.shape)[alive]
    fits = [
        codes
        for bits in WIDTHS
        for codes in _candidates(bits)
        if (_symmetric if weight else _affine)(codes, low, high, scale[alive], zero, fused)
    ]
    return fits[0] if len(fits) == 1 else None


def _candidates(bits: int) -> list[tuple[int, int]]:
    half = 2 ** (bits - 1)
    return [(0, 2 * half - 1), (-half, half - 1), (1 - half, half - 1)]


def _affine(codes: Codes, low: np.ndarray, high: np.ndarray, scale: np.ndarray, zero: np.ndarray, fused: bool) -> bool:
    first, last = codes
    is_near = _near((high - low) / (last - first), scale)
    return is_near and bool((np.abs(first - np.rint(low / scale) - zero) < 1).all())


def _symmetric(
    codes: Codes, low: np.ndarray, high: np.ndarray, scale: np.ndarray, zero: np.ndarray, fused: bool
) -> bool:
    first, last = codes
    if first == 0 or zero.any():
        return False
    if fused:
        return _near(np.maximum(high / last, low / (-last - 1)) * ((2 * last + 1) / (last - first)), scale)
    return _near(2 * np.maximum(high, -low) / (last - first), scale)


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((np.abs(a - b) <= NEAR * b).all())
