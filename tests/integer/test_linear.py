"""QuantizeLinear and DequantizeLinear equal ONNX Runtime to the bit, with graph optimization on and off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support.integer_reference import F, codes, same
from support.single_node import node


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_quantize_rounds_half_to_even_and_saturates(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    ties = (np.arange(-600, 600) / 2 * 0.25).astype(F)
    extremes = np.array([1e30, -1e30, np.inf, -np.inf], F)
    x = np.concatenate([ties, rng.normal(0, 30, 5000).astype(F), extremes]).reshape(1, -1)
    same(node("QuantizeLinear", {"x": x}, [F(0.25), dtype(7)], dtype), {"x": x})
    same(node("QuantizeLinear", {"x": x}, [F(0.0371), dtype(101)], dtype), {"x": x})


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
def test_dequantize(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    x = codes(rng, (3, 4, 50), dtype)
    zero = dtype(0 if dtype == np.int32 else 5)
    same(node("DequantizeLinear", {"x": x}, [F(0.0371), zero], F), {"x": x})
    scales = rng.uniform(0.01, 1, 4).astype(F)
    same(node("DequantizeLinear", {"x": x}, [scales, np.full(4, zero)], F, axis=1), {"x": x})
