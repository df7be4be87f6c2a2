"""symmetric: codes around zero, and how far β' is from β."""

from __future__ import annotations

import numpy as np
import pytest

from calib import QuantizationError
from calib.folding.symmetric import around_zero, symmetric_grid
from calib.grid import Grid

RNG = np.random.default_rng(5)
GRIDS = [
    Grid(float(s), float(-s * at * p), 0, p)
    for p in (3, 7, 15, 127)
    for s, at in zip(RNG.uniform(1e-3, 9, 8), RNG.uniform(0.0, 1.0, 8), strict=True)
]


@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{g.qmax} {g.offset / g.scale:.2f}")
def test_codes_are_spread_around_zero(grid: Grid) -> None:
    """Signed codes of 8 bits, one for each trained code, k apart; their values differ from the trained ones by one
    number, at most s/(2k), which biases carry."""
    found = symmetric_grid(grid)
    trained = np.arange(grid.qmax + 1)
    signed = found.stride * trained + found.origin - 128
    assert signed.min() >= -128 and signed.max() <= 127 and found.zero_point == 128
    assert found.scale == np.float32(grid.scale / found.stride)
    error = signed * found.scale - (grid.scale * trained + grid.offset)
    np.testing.assert_allclose(error, -found.remainder, atol=grid.scale * 1e-4)
    assert abs(found.remainder) <= grid.scale / (2 * found.stride) * (1 + 1e-6)


def test_no_other_stride_is_nearer() -> None:
    for grid in GRIDS:
        found = symmetric_grid(grid)
        for stride in range(1, 256 // grid.qmax + 1):
            low = round(stride * grid.offset / grid.scale)
            if low >= -128 and low + stride * grid.qmax <= 127:
                assert abs(found.remainder) <= abs(grid.offset - low * grid.scale / stride) * 1.01 + 1e-6 * grid.scale


@pytest.mark.parametrize("offset", [-129.0, 113.0])
def test_a_grid_far_from_zero_is_refused(offset: float) -> None:
    with pytest.raises(QuantizationError, match="do not fit signed codes around zero: train with an offset nearer"):
        symmetric_grid(Grid(1.0, offset, 0, 15))


@pytest.mark.parametrize(
    ("grid", "scale", "codes"),
    [
        (Grid(0.5, -64.0, 0, 255), 0.5, (0, 255)),  # zero is in the middle already
        (Grid(0.5, 0.0, 0, 255), 127.5 / 127, (128, 255)),  # after a ReLU: twice as coarse
        (Grid(0.5, -127.5, 0, 255), 127.5 / 127, (0, 128)),
        (Grid(0.5, -32.0, 0, 255), 95.5 / 127, (85, 255)),
    ],
)
def test_eight_bits_move_their_zero_to_the_middle(grid: Grid, scale: float, codes: tuple[int, int]) -> None:
    found = around_zero(grid)
    assert found.scale == np.float32(scale) and found.offset == -128 * found.scale
    assert (found.qmin, found.qmax) == codes
    # the lowest code, -128, is one step more than is needed where -127 is
    for end, code in ((0, max(found.qmin, 1)), (grid.qmax, found.qmax)):
        assert abs(found.values(code) - grid.values(end)) <= found.scale + 1e-6
