"""calib.folding.containers: spreading (E5) to clamps (E10), against brute force and exact rational arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.errors import QuantizationError
from calib.folding.containers import StridedGrid, fold_batch_norm, narrow, quantize_bias, strided_grid, weight_gain
from calib.grid import Grid, code_range

GRIDS = st.builds(
    lambda scale, steps, bits, signed: Grid(scale, steps * scale, *code_range(bits, signed)),
    scale=st.floats(1e-4, 10),
    steps=st.floats(-20, 3),
    bits=st.integers(2, 8),
    signed=st.booleans(),
)


def offsets_by_stride(grid: Grid) -> dict[int, tuple[int, float]]:
    """{k: (Z, |β' - β|)} of spreading (E5) for every stride whose Z lies in the container, in plain arithmetic."""
    beta, p = grid.offset + grid.qmin * grid.scale, grid.qmax - grid.qmin
    found = {}
    for k in range(1, 255 // p + 1):
        origin = 255 - k * p
        zero = round(-k * beta / grid.scale) + origin
        if 0 <= zero <= 255:
            found[k] = (zero, abs((origin - zero) * float(np.float32(grid.scale / k)) - beta))
    return found


def check_codes(strided: StridedGrid) -> None:
    """c = k·q + o lies in the container, p is its last code, and the values are the trained ones moved by β' - β."""
    q = np.arange(strided.trained.qmax + 1)
    codes = strided.stride * q + strided.origin
    assert codes.min() >= 0 and codes.max() == 255
    assert 0 <= strided.zero_point <= 255 and strided.origin == 255 - strided.stride * strided.trained.qmax
    assert strided.scale == np.float32(strided.scale)  # what a file can hold
    values = strided.scale * (codes - strided.zero_point)
    reach = np.abs(values).max() + abs(strided.remainder) + strided.trained.scale * strided.trained.qmax
    # S rounds to float32.
    assert np.abs(values + strided.remainder - strided.trained.values(q)).max() <= 2.0**-23 * reach


@settings(max_examples=150, deadline=None, derandomize=True)
@given(grid=GRIDS)
def test_a_padded_grid_takes_the_best_stride(grid: Grid) -> None:
    options = offsets_by_stride(grid)
    if not options:
        with pytest.raises(QuantizationError, match="real zero is off the grid"):
            strided_grid(grid, padded=True)
        return
    found = strided_grid(grid, padded=True)
    check_codes(found)
    best = min(error for _, error in options.values())
    assert options[found.stride][0] == found.zero_point
    # Of strides that are as good as each other, the finest.
    assert abs(found.remainder) <= best / 0.999 + 1e-12 * grid.scale
    assert (
        abs(found.offset - found.trained.offset)
        <= 0.5 * found.trained.scale / found.stride * (1 + 1e-6) + 2.0**-23 * abs(grid.offset) * 4
    )


@settings(max_examples=80, deadline=None, derandomize=True)
@given(grid=GRIDS, far=st.floats(-1e4, 1e4))
def test_an_unpadded_grid_always_has_a_place(grid: Grid, far: float) -> None:
    found = strided_grid(Grid(grid.scale, far * grid.scale, grid.qmin, grid.qmax), padded=False)
    check_codes(found)
    assert found.stride == 255 // found.trained.qmax  # the finest


def test_real_zero_off_the_grid() -> None:
    below = Grid(0.5, 150.0, 0, 15)  # zero would be code -300, and o is at most 240
    with pytest.raises(QuantizationError, match=r"real zero is off the grid \(values 150 … 157.5\)") as error:
        strided_grid(below, padded=True)
    assert "\n" not in str(error.value)
    found = strided_grid(below, padded=False)
    assert found.remainder == pytest.approx(150.0, abs=1e-6) and found.zero_point == 0
    with pytest.raises(QuantizationError, match="real zero is off the grid"):
        strided_grid(Grid(0.5, -100.0, 0, 15), padded=True)


def test_head_room_makes_place_for_a_zero_below_the_codes() -> None:
    """β = 3 steps: Z = -3 of the codes 0 … 3; with k = 42, o = 129 it is 3 again."""
    found = strided_grid(Grid(1.0, 3.0, 0, 3), padded=True)
    assert found.zero_point == found.origin - 3 * found.stride >= 0 and abs(found.remainder) < 1e-6


@pytest.mark.parametrize("offset", [0.0, -3.0])
def test_eight_bits_without_a_clamp_need_no_look_up(offset: float) -> None:
    found = strided_grid(Grid(1.0, offset, 0, 255), padded=True)
    assert found.is_plain and found.zero_point == -offset and found.remainder == 0
    assert not strided_grid(Grid(1.0, offset, 0, 254), padded=True).is_plain


@settings(max_examples=60, deadline=None, derandomize=True)
@given(grid=GRIDS, low=st.floats(-3, 1), span=st.floats(0, 8))
def test_a_clamp_of_values_is_a_clamp_of_codes(grid: Grid, low: float, span: float) -> None:
    x = np.concatenate(
        [np.linspace(-30, 30, 4001) * grid.scale, [low, low + span], grid.values(np.arange(grid.qmin, grid.qmax) + 0.5)]
    )
    for bounds in ((low, low + span), (0.0, math.inf), (-math.inf, low), (-math.inf, math.inf)):
        clamped = grid.codes(x.clip(*bounds))
        if clamped.min() == clamped.max():
            continue
        assert np.array_equal(narrow(grid, *bounds).codes(x), clamped)


@pytest.mark.parametrize(("low", "high"), [(0.0, math.inf), (-math.inf, -40.0), (-2.2, -2.1)])
def test_a_clamp_that_leaves_one_code_is_refused(low: float, high: float) -> None:
    with pytest.raises(QuantizationError, match=r"leaves one code of the grid -8 … -0.5"):
        narrow(Grid(0.5, -8.0, 0, 15), low, high)


@pytest.mark.parametrize("shape", [(6, 3, 3, 3), (6, 10)])
def test_batch_norm(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(-128, 128, shape).astype(np.int16)
    codes.reshape(6, -1)[:, 0] = -128
    scale, bias, beta, mean = (rng.normal(size=6) for _ in range(4))
    scale, variance, gamma = np.abs(scale), rng.uniform(1e-4, 2, 6), np.array([1.3, -0.7, 0.0, -0.0, 1e-12, -1e-30])
    folded, folded_scale, folded_bias = fold_batch_norm(codes, scale, bias, gamma, beta, mean, variance, 1e-3)
    x = rng.normal(size=(shape[1:]))
    axes = tuple(range(1, len(shape)))
    sums = (codes * x).sum(axes) * scale + bias  # [C]
    expected = gamma * (sums - mean) / np.sqrt(variance + 1e-3) + beta
    assert np.abs((folded * x).sum(axes) * folded_scale + folded_bias - expected).max() < 1e-12 * np.abs(sums).max()
    assert (folded_scale > 0).all() and folded.dtype == np.int16
    assert (folded[1] == -codes[1]).all() and folded[1].max() == 128  # -128 becomes +128: an int16, never wrapped
    assert not folded[2:4].any() and (folded_scale[2:4] == scale[2:4]).all()


@pytest.mark.parametrize("largest", range(129))
def test_the_weight_gain_is_the_largest_that_keeps_two_products_in_an_int16(largest: int) -> None:
    codes = np.array([[-largest, largest, 0]], np.int16)
    gain = weight_gain(codes)
    assert gain >= 1
    if 0 < largest <= 64:  # weights within 64 (E7)
        assert gain * largest <= 64 < (gain + 1) * largest and 255 * 2 * gain * largest < 2**15
    else:
        assert gain == (1 if largest else 64)  # 8-bit codes are stored as UINT8


def test_no_weights_at_all_have_a_gain() -> None:
    assert weight_gain(np.zeros((0, 3), np.int16)) == 64


def test_a_bias_is_rounded_half_to_even_in_its_unit() -> None:
    bias = np.array([0.75, 1.25, -0.75, 2.0**30, -0.1])
    assert quantize_bias(bias, np.array([0.5, 0.5, 0.5, 1.0, 1.0])).tolist() == [2, 2, -2, 2**30, 0]
    assert quantize_bias(np.array([2.0**31 - 1, 1 - 2.0**31]), np.ones(2)).tolist() == [2**31 - 1, 1 - 2**31]


@pytest.mark.parametrize("bias", [2.0**31, -(2.0**31), math.inf, math.nan])
def test_a_bias_beyond_int32_is_refused(bias: float) -> None:
    with pytest.raises(QuantizationError, match=r"the bias of channel 1 is .* beyond int32"):
        quantize_bias(np.array([0.0, bias]), np.ones(2))
