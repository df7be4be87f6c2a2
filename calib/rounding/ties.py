"""Scales and shifts that keep sums of codes away from rounding ties.

Sums of dequantized codes (residual adds, averages) take finitely many values. Kernels compute them in float32, each in
an order of its own, or in fixed point (fixed_point.py); where a value lies almost on a tie (k + 1/2 steps), they round
differently from real arithmetic and from each other. The grids of edges are ours to choose: with a scale moved by some
millionths every value is at least MARGIN steps from any tie, so that every order of float32 arithmetic gives one
result, and fixed point gives the same: one file has the same codes on every instruction set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from calib.folding.containers import CONTAINER_MAX
from calib.grid import FloatArray, quantize_linear

from .candidates import MARGIN, Changes, first_clear, no_tables, steps_around, steps_from
from .fixed_point import Addend, fixed_point_sums

# Relative change from one candidate to the next, two float32 neighbors or more: code 255 moves by about a MARGIN. With
# larger ones a scale would move farther than it has to, and with it the values that were near a tie in training.
STRIDE = 2.5e-7
# Candidates for a multiplier: their second rounding is as good as random, and the best of them near its best.
NEAREST = 64
SHIFT, SHIFTS = 2e-5, 2000  # steps of the output from one candidate of a shift to the next; how many
TABLE, NEAR = 256, 4000  # values of a table; candidates on each side of its scale
COARSE = 512  # steps of a sum, beyond which float32 roundings outgrow MARGIN


def clear_scale(
    values: FloatArray,
    scale: float,
    low: int,
    high: int,
    *,
    margin: float = MARGIN,
    readers: Sequence[float] = (),
    changes: Changes = no_tables,
) -> float:
    """The float32 scale nearest to `scale` that keeps all values clear of ties; the clearest one if none does.

    values: every value that the sum can take; none if only the readers matter.
    low, high: codes minus zero point; values beyond them saturate and do not matter.
    readers: scales of grids that these codes are quantized to directly; that must be clear of ties as well.
    changes: of what reads these codes; a scale that changes none is taken if there is one nearly as near.

    A table (at most 256 values) keeps as many of its codes as it can: training may have seen this grid, and a value of
    the table is that of many elements.
    """
    values = np.unique(values)

    def clearance(candidate: float) -> float:
        return _clearances(values, candidate, low, high, readers)

    if 0 < len(values) <= TABLE:
        codes = quantize_linear(values, scale, 0, low, high)

        def changed(candidate: float) -> int:
            return int((quantize_linear(values, candidate, 0, low, high) != codes).sum()) + changes(candidate)

        kept = _keeping(scale, clearance, margin, changed)
        if kept is not None:
            return kept
    return first_clear(steps_around(scale, scale * STRIDE), clearance, margin=margin, changes=changes)


def _keeping(scale: float, clearance: Callable[[float], float], margin: float, changed: Changes) -> float | None:
    """Of the first float32 scales above and below that are clear of ties, the one that changes fewer codes.

    Scales farther away change more of them.
    """

    def is_clear(candidate: float) -> bool:
        return clearance(candidate) >= margin

    steps = (scale * STRIDE, -scale * STRIDE)
    sides = [next(filter(is_clear, steps_from(scale, step, NEAR)), None) for step in steps]
    return min(
        (candidate for candidate in sides if candidate is not None),
        key=lambda candidate: (changed(candidate), abs(candidate - scale)),
        default=None,
    )


def clear_sum_scale(
    a: Addend,
    b: Addend,
    scale: float,
    low: int,
    high: int,
    *,
    readers: Sequence[float] = (),
    changes: Changes = no_tables,
) -> float:
    """`clear_scale` for the output scale of a + b, which fixed point must round alike."""
    values = np.unique(_sums(a, b))
    return first_clear(
        steps_around(scale, scale * STRIDE),
        lambda candidate: _clearances(values, candidate, low, high, readers),
        lambda candidate: fixed_point_agrees(a, b, candidate, low, high),
        sum_margin(max(a.scale, b.scale), scale),
        changes,
    )


def sum_margin(coarsest: float, scale: float) -> float:
    """How many steps of `scale` sums have to keep clear of ties; coarsest: the larger scale of the two addends.

    Kernels multiply codes and zero points of up to 255 by S_a/S. Above 512 steps, which a grid much coarser than the
    output's reaches, four roundings miss by half a unit in the last place each.
    """
    largest = CONTAINER_MAX * coarsest / scale
    return MARGIN if largest <= COARSE else 2 * float(np.spacing(np.float32(largest)))


def clear_shift(a: Addend, shift: Addend, scale: float, low: int, high: int) -> float:
    """`clear_scale` for the scale of `shift`, a constant that is added to a; the output's scale stays.

    It moves by SHIFT steps of the output at a time.
    """

    def shifted(size: float) -> Addend:
        return Addend(shift.steps, size)

    return first_clear(
        steps_around(shift.scale, scale * SHIFT, SHIFTS),
        lambda size: tie_distance(_sums(a, shifted(size)) / scale, low, high),
        lambda size: fixed_point_agrees(a, shifted(size), scale, low, high),
        sum_margin(a.scale, scale),
    )


def exact_product_scale(
    a: float, b: float, scale: float, low: int, high: int, *, readers: Sequence[float] = ()
) -> float:
    """The output scale with which accumulators of products of codes on scales a and b round as real numbers do.

    Requantization (E9) multiplies an accumulator by M = float32(float32(a·b)/S) in float32, so that one next to a tie
    can get another code than the real number a·b/S·acc does; where data repeat (padding, say), so do accumulators, and
    one such tie is many elements. The S nearest to `scale` is taken with which none does and M·S misses a·b by less
    than 2^-30; or else, of the NEAREST, the one with the fewest such ties, and of these the most exact: farther ones
    would move more codes than they keep. This is how QLinearMatMul requantizes.
    """

    def exactness(candidate: float) -> float:
        multiplier = np.float32(np.float32(a) * np.float32(b)) / np.float32(candidate)
        error = abs(float(multiplier) * candidate / (a * b) - 1)
        if _readers_clearance(candidate, low, high, readers) < MARGIN:
            return -CONTAINER_MAX - 1.0  # below that of all others
        return -error - _otherwise_rounded(multiplier, a * b / candidate, low, high)

    step, exact = scale * STRIDE, -(2.0**-30)
    near = first_clear(steps_around(scale, step, NEAREST), exactness, margin=exact)
    return (
        near
        if exactness(near) > -CONTAINER_MAX - 1
        else first_clear(steps_around(scale, step), exactness, margin=exact)
    )


def _otherwise_rounded(multiplier: np.float32, real: float, low: int, high: int) -> int:
    """Beside how many ties an accumulator, multiplied in float32, is rounded to another code than real numbers are."""
    ties = np.arange(low, high) + 0.5
    beside = np.floor(ties / real) + np.array([[0], [1]])  # [2, ties]
    rounded = np.rint(beside.astype(np.float32) * multiplier)
    return int((rounded != np.rint(beside * real)).any(0).sum())


def tie_distance(steps: FloatArray, low: int, high: int) -> float:
    """The smallest distance of values (in steps) to a tie between two of the codes low … high; 0.5 if there is none.

    Values beyond these codes saturate.
    """
    inside = steps[(steps >= low) & (steps <= high)]
    return float(np.abs(inside - np.floor(inside) - 0.5).min(initial=0.5))


def _clearances(values: FloatArray, scale: float, low: int, high: int, readers: Sequence[float]) -> float:
    """How clear of ties sorted values on this scale are, and their codes on the scales of the readers."""
    of_values = _clearance(values, scale, low, high) if len(values) else 0.5
    return min(of_values, _readers_clearance(scale, low, high, readers))


def _readers_clearance(scale: float, low: int, high: int, readers: Sequence[float]) -> float:
    values = np.arange(low, high + 1, dtype=np.float64) * scale
    return min([0.5, *(tie_distance(values / reader, -CONTAINER_MAX, CONTAINER_MAX) for reader in readers)])


def _clearance(values: FloatArray, scale: float, low: int, high: int) -> float:
    """tie_distance(values / scale, low, high) of sorted values, which may be millions: the ties are few."""
    ties = (np.arange(low, high) + 0.5) * scale
    above = np.searchsorted(values, ties)
    neighbors = values[np.clip([above - 1, above], 0, len(values) - 1)]  # [2, ties]
    return float(min(0.5, np.abs(neighbors - ties).min() / scale))


def fixed_point_agrees(a: Addend, b: Addend, scale: float, low: int, high: int) -> bool:
    """Whether fixed point rounds every a + b to the code that real arithmetic gives."""
    fixed = fixed_point_sums(a, b, scale)
    return fixed is None or np.array_equal(fixed.clip(low, high), quantize_linear(_sums(a, b), scale, 0, low, high))


def _sums(a: Addend, b: Addend) -> FloatArray:
    return np.asarray(np.add.outer(a.values, b.values))
