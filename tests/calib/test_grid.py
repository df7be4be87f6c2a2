"""calib.grid: the trained grid (E1) and the ONNX grid (E2), code by code."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.errors import QuantizationError
from calib.grid import (
    Grid,
    code_range,
    codes_,
    dequantize,
    dequantize_linear,
    position,
    quantize,
    quantize_linear,
    values_,
)


def code(x: float, scale: float, offset: float, low: int, high: int) -> int:
    """A code of the trained grid (E1) in exact arithmetic: Python rounds fractions half to even."""
    return min(max(round((Fraction(x) - Fraction(offset)) / Fraction(scale)), low), high)


@pytest.mark.parametrize(
    ("bits", "signed", "expected"),
    [(2, False, (0, 3)), (2, True, (-2, 1)), (3, True, (-4, 3)), (8, False, (0, 255)), (8, True, (-128, 127))],
)
def test_code_ranges(bits: int, signed: bool, expected: tuple[int, int]) -> None:
    assert code_range(bits, signed) == expected


@pytest.mark.parametrize("bits", [-1, 0, 1, 9])
def test_bits_outside_2_to_8_are_refused(bits: int) -> None:
    with pytest.raises(QuantizationError, match=f"bits={bits}"):
        code_range(bits, signed=False)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
@pytest.mark.parametrize(("low", "high"), [(0, 255), (-128, 127)])
def test_256_values_have_256_codes(kind: str, low: int, high: int) -> None:
    codes = np.arange(low, high + 1.0)
    for scale, offset in ((0.25, -3.0), (2.0**-7, 0.0), (0.1, 0.77)):
        values = dequantize(codes, scale, offset)
        assert quantize(kind(values), scale, offset, low, high).tolist() == codes.tolist()
        assert quantize(kind(values + 0.49 * scale), scale, offset, low, high).tolist() == codes.tolist()
        assert quantize(kind(values - 0.49 * scale), scale, offset, low, high).tolist() == codes.tolist()


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_e2_256_values_have_256_codes(kind: str) -> None:
    codes = np.arange(256.0)
    for scale, zero_point in ((0.25, 12), (2.0**-7, 0), (0.1, 255), (0.3, 128)):
        values = dequantize_linear(codes, scale, zero_point)
        assert quantize_linear(kind(values), scale, zero_point, 0, 255).tolist() == codes.tolist()
        assert values[zero_point] == 0  # real zero is on the grid


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_e2_in_place_is_the_plain_formula_to_the_bit(dtype: torch.dtype) -> None:
    x = torch.cat(
        [
            torch.randn(2, 3, 5000, generator=torch.Generator().manual_seed(0)) * 9,
            torch.arange(-60, 60).repeat(2, 3, 1) / 4,
        ],
        dim=2,
    ).to(dtype)
    for scale, zero_point in (
        (0.5, 3.0),
        (torch.tensor([0.1, 0.5, 2.0], dtype=dtype)[:, None], torch.tensor([0.0, 7, 128], dtype=dtype)[:, None]),
    ):
        kept, codes = x.clone(), quantize_linear(x, scale, zero_point, 0, 255)
        assert torch.equal(codes_(position(x, scale, None), 0, 255, zero_point), codes)
        assert torch.equal(values_(codes, scale, zero_point), dequantize_linear(codes, scale, zero_point))
        assert torch.equal(x, kept) and codes.min() == 0 and codes.max() > 10


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_ties_go_to_the_even_code(kind: str) -> None:
    ties = kind(np.arange(-4.5, 5.0))  # -4.5 … 4.5
    assert quantize(ties, 1.0, 0.0, -8, 7).tolist() == [-4, -4, -2, -2, 0, 0, 2, 2, 4, 4]
    assert quantize(ties * 0.25 + 0.5, 0.25, 0.5, -8, 7).tolist() == [-4, -4, -2, -2, 0, 0, 2, 2, 4, 4]
    # The ONNX grid (E2) rounds before it adds Z: with an odd Z a tie goes to an odd code.
    assert quantize_linear(ties, 1.0, 5, 0, 15).tolist() == [1, 1, 3, 3, 5, 5, 7, 7, 9, 9]


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_both_ends_saturate(kind: str) -> None:
    x = kind(np.array([-math.inf, -1e30, -0.51, 15.49, 15.51, 1e30, math.inf]))
    assert quantize(x, 1.0, 0.0, 0, 15).tolist() == [0, 0, 0, 15, 15, 15, 15]
    assert quantize_linear(x, 1.0, 3, 0, 15).tolist() == [0, 0, 2, 15, 15, 15, 15]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    x=st.floats(-100, 100),
    scale=st.floats(1e-3, 10),
    offset=st.floats(-20, 20),
    bits=st.integers(2, 8),
    signed=st.booleans(),
)
def test_codes_are_those_of_exact_arithmetic_but_for_ties(
    x: float, scale: float, offset: float, bits: int, signed: bool
) -> None:
    low, high = code_range(bits, signed)
    found = int(Grid(scale, offset, low, high).codes(np.float64(x)))
    steps = (Fraction(x) - Fraction(offset)) / Fraction(scale)
    near_tie = abs(steps - math.floor(steps) - Fraction(1, 2)) < 1e-9  # where two float64 roundings may decide
    assert found == code(x, scale, offset, low, high) or near_tie


def test_numpy_and_torch_give_equal_codes() -> None:
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        x = (rng.standard_normal(20_000) * 3).astype(dtype)
        scale, offset = dtype(0.137), dtype(-0.271)
        for low, high in ((0, 3), (-8, 7), (0, 255)):
            theirs = quantize(torch.from_numpy(x), torch.tensor(scale), torch.tensor(offset), low, high)
            assert np.array_equal(quantize(x, scale, offset, low, high), theirs.numpy())
            assert np.array_equal(
                dequantize(theirs.numpy(), scale, offset),
                dequantize(theirs, torch.tensor(scale), torch.tensor(offset)).numpy(),
            )
            linear = quantize_linear(torch.from_numpy(x), torch.tensor(scale), 7, low, high)
            assert np.array_equal(quantize_linear(x, scale, 7, low, high), linear.numpy())
            assert np.array_equal(
                dequantize_linear(linear.numpy(), scale, 7), dequantize_linear(linear, torch.tensor(scale), 7).numpy()
            )


def test_scales_broadcast_per_channel() -> None:
    x = np.array([[1.0, 2.0], [1.0, 2.0]])
    assert quantize(x, np.array([[1.0], [0.5]]), 0.0, -8, 7).tolist() == [[1, 2], [2, 4]]


def test_an_unsigned_grid_has_the_same_values() -> None:
    grid = Grid(0.3, -0.17, -8, 7)
    same = grid.unsigned()
    assert (same.qmin, same.qmax) == (0, 15)
    codes = np.arange(-8, 8)
    assert np.allclose(same.values(codes + 8), grid.values(codes), rtol=0, atol=1e-15)
    x = np.linspace(-5, 5.0001, 10_001)  # no ties
    assert np.array_equal(same.codes(x), grid.codes(x) + 8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.0, 0.0, 0, 3), "scale is 0.0"),
        ((-1.0, 0.0, 0, 3), "scale is -1.0"),
        ((math.nan, 0.0, 0, 3), "scale is nan"),
        ((math.inf, 0.0, 0, 3), "scale is inf"),
        ((1.0, math.nan, 0, 3), "offset is nan"),
        ((1.0, -math.inf, 0, 3), "offset is -inf"),
        ((1.0, 0.0, 3, 3), "codes 3 … 3"),
        ((1.0, 0.0, 4, 3), "codes 4 … 3"),
    ],
)
def test_what_is_no_grid_is_refused(values: tuple[float, float, int, int], message: str) -> None:
    with pytest.raises(QuantizationError, match=message) as error:
        Grid(*values)
    assert "\n" not in str(error.value)
