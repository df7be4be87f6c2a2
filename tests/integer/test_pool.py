"""Pools equal ONNX Runtime to the bit, with graph optimization on and off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support import oracle
from support.integer_reference import F, codes, grids, same
from support.single_node import MICROSOFT, node


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("shape", [(2, 16, 7, 7), (3, 5, 4, 4), (1, 19, 1, 1), (2, 4, 33), (1, 30_000, 2, 3)])
def test_global_average_pool(shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(14)
    for i in range(10):
        x = codes(rng, shape, dtype)
        (sx, zx), (sy, zy), _ = grids(rng, i)
        sy = sx if i == 0 else sy * F(0.3)
        constants = [sx, zx.astype(dtype), sy, zy.astype(dtype)]
        same(node("QLinearGlobalAveragePool", {"x": x}, constants, dtype, domain=MICROSOFT, channels_last=0), {"x": x})


AVERAGES: list[dict[str, Any]] = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    {"kernel_shape": [3, 2], "pads": [2, 0, 1, 1], "strides": [2, 3]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
    {"kernel_shape": [9, 8]},
    {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
]


@pytest.mark.parametrize("attributes", AVERAGES, ids=lambda a: " ".join(f"{k}={v}" for k, v in a.items()))
def test_average_pool(attributes: dict[str, Any]) -> None:
    rng = np.random.default_rng(15)
    for i in range(12):
        x = codes(rng, (2, 210 if i > 5 else 19, 9, 8))  # many windows: some means lie beside ties
        (sx, zx), (sy, zy), _ = grids(rng, i)
        same(node("QLinearAveragePool", {"x": x}, [sx, zx, sy, zy], domain=MICROSOFT, **attributes), {"x": x})


MAXIMA: list[dict[str, Any]] = [a for a in AVERAGES if "count_include_pad" not in a]
MAXIMA += [{"kernel_shape": [3, 3], "dilations": [2, 3]}, {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1}]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("attributes", MAXIMA, ids=lambda a: " ".join(f"{k}={v}" for k, v in a.items()))
def test_max_pool(attributes: dict[str, Any], dtype: Any) -> None:
    rng = np.random.default_rng(16)
    x = codes(rng, (2, 16, 9, 8), dtype)
    y = same(node("MaxPool", {"x": x}, [], dtype, **attributes), {"x": x})["y"]
    if attributes == {"kernel_shape": [3, 2], "pads": [2, 0, 1, 1], "strides": [2, 3]}:
        assert np.array_equal(y, oracle.max_pool(x, (3, 2), (2, 3), (2, 0, 1, 1)))
