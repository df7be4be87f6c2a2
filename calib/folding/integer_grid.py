"""The integer fold: a trained grid on b-bit hardware, whose zero point is one of the b-bit codes.

There is no head room for spreading (E5). The codes stay the trained ones, since the producer's bias carries β (E3);
hardware reads them as S·(c - Z) (the ONNX grid, E2), and the consumers' biases add a constant δ (E4). With S = s and
δ = β + s·Z every value is exact, but a padded consumer adds δ for the taps outside as well, where real arithmetic adds
nothing. So where something is padded, S, δ and Z are chosen again to minimize the expected squared error of what the
consumer sees, a linear least-squares problem for each Z (E5b), with φ the share of the taps that lie outside:

    J(S, δ) = (1 - φ) · mean (S·(c - Z) + δ - (s·c + β))²  +  φ · δ²

With an offset trained on multiples of s (offset="integer") the minimum is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.grid import FloatArray, Grid
from calib.statistics.observers import Points

from .containers import integral_zero_point


@dataclass(frozen=True)
class IntegerGrid:
    """Codes c are the trained codes, 0 … p; values are scale * (c - zero_point) plus the remainder δ.

    trained: the grid it was made from, unsigned.
    scale: S as float32 holds it.
    remainder: δ, which the consumers' biases add.
    error: J, in units of the tensor squared.
    """

    trained: Grid
    scale: float
    zero_point: int
    remainder: float
    error: float

    @property
    def offset(self) -> float:
        """beta', the offset of the values without the remainder."""
        return -self.scale * self.zero_point


def naive_grid(grid: Grid) -> IntegerGrid:
    """What exporters do: S = s, Z = round(-β/s) clipped to the codes, and nobody carries the rest.

    For comparison only.
    """
    grid = grid.unsigned()
    return IntegerGrid(grid, float(np.float32(grid.scale)), _clipped_zero_point(grid), 0.0, float("nan"))


def integer_grid(grid: Grid, points: Points | None, outside: float, *, fixed_scale: bool = False) -> IntegerGrid:
    """The integer fold of one grid.

    points: what the quantizer's input looked like on calibration data; not needed where nothing is padded.
    outside: φ, the share of the taps that lie outside; 0 where nothing is padded.
    fixed_scale: S stays s, because nothing before the grid can be scaled; only Z and δ are chosen.
    """
    grid = grid.unsigned()
    exact = integral_zero_point(grid)
    if exact is not None:
        return IntegerGrid(grid, float(np.float32(grid.scale)), exact, 0.0, 0.0)
    if outside == 0 or points is None:
        scale, zero_point = float(np.float32(grid.scale)), _clipped_zero_point(grid)
        return IntegerGrid(grid, scale, zero_point, grid.offset + scale * zero_point, 0.0)
    codes, share = grid.codes(points.values), points.counts / points.counts.sum()
    return min(
        (_least_squares(grid, codes, share, outside, z, fixed_scale) for z in range(grid.qmax + 1)),
        key=lambda candidate: candidate.error,
    )


def _clipped_zero_point(grid: Grid) -> int:
    return int(np.clip(grid.zero_point, 0, grid.qmax))


def _least_squares(
    grid: Grid, codes: FloatArray, share: FloatArray, outside: float, zero_point: int, fixed_scale: bool
) -> IntegerGrid:
    """The best S and δ for one Z (E5b), from moments instead of points, since J is quadratic."""
    shifted = codes - zero_point
    target = grid.values(codes)
    mean, square = float(share @ shifted), float(share @ shifted**2)
    inside = 1 - outside
    normal = np.array([[inside * square, inside * mean], [inside * mean, inside + outside]])
    right = inside * np.array([share @ (shifted * target), share @ target])
    scale = grid.scale
    if not fixed_scale and np.linalg.det(normal) > 1e-9 * square:
        best = float(np.linalg.solve(normal, right)[0])
        if 0.25 < best / grid.scale < 4:  # codes that hardly vary must not turn or flatten the grid
            scale = best
    scale = float(np.float32(scale))
    remainder = float(inside * share @ (target - scale * shifted))  # the best δ for the S that is stored
    error = inside * float(share @ (scale * shifted + remainder - target) ** 2) + outside * remainder**2
    return IntegerGrid(grid, scale, zero_point, remainder, error)
