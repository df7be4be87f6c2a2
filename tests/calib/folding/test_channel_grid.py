"""channel_grid: every channel's codes lie in the container, with real zero at one code.

Their values are within s/(2k) of the trained ones.
"""

from __future__ import annotations

import numpy as np
import pytest

from calib import QuantizationError
from calib.folding.channel_grid import channel_grid, has_room

FLOAT32 = 2.0**-22  # the scale is held as float32: some hundred codes move by that, relatively


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(5))
def test_codes_and_values(bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale, qmax = float(10 ** rng.uniform(-3, 1)), 2**bits - 1
    offsets = -scale * rng.uniform(0, 2 if bits > 2 else 1, 6)
    grid = channel_grid(scale, offsets, qmax, padded=True)
    q = np.arange(qmax + 1)
    codes = grid.stride * q + grid.origins[:, None]  # [C, codes]
    assert codes.min() >= 0 and codes.max() <= 255 and 0 <= grid.zero_point <= 255
    values = grid.scale * (codes - grid.zero_point)
    wanted = scale * q + (offsets - grid.remainders)[:, None]
    assert np.abs(values - wanted).max() <= FLOAT32 * np.abs(wanted).max()
    assert np.abs(grid.remainders).max() <= scale / (2 * grid.stride) + FLOAT32 * np.abs(offsets).max()


def test_the_stride_is_the_best_one() -> None:
    """At 4 bits, β = -s/2 and -s/4: k = 17 carries neither exactly, 16 both, and 15 codes leave room for 255 - 240."""
    grid = channel_grid(1.0, np.array([-0.5, -0.25]), 15, padded=True)
    assert (grid.stride, grid.zero_point, grid.origins.tolist(), grid.remainders.tolist()) == (16, 8, [0, 4], [0, 0])


def test_without_padding_the_biases_carry_all() -> None:
    grid = channel_grid(0.5, np.array([-0.2, 7.0]), 15, padded=False)
    assert (grid.stride, grid.zero_point, grid.origins.tolist(), grid.remainders.tolist()) == (
        17,
        0,
        [0, 0],
        [-0.2, 7.0],
    )


def test_offsets_too_far_apart_are_refused() -> None:
    with pytest.raises(QuantizationError, match="side by side"):
        channel_grid(1.0, np.array([-200.0, 100.0]), 15, padded=True)
    assert not has_room(1.0, np.array([-200.0, 100.0]), 15) and has_room(1.0, np.array([-20.0, -10.0]), 15)


def test_of_8_bits_there_is_room_for_offsets_that_are_alike() -> None:
    assert has_room(1.0, np.array([-7.0, -7.0]), 255) and has_room(1.0, np.array([-7.2, -6.9]), 255)
    assert not has_room(1.0, np.array([-7.0, -9.0]), 255)
