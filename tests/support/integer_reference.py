"""The integer reference against ONNX Runtime, and codes and grids to run both on."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from lsq_export.integer import run
from support.single_node import LEVELS, onnx_runtime

F = np.float32
U8 = np.uint8
EVERY = np.arange(256, dtype=U8)
PAIRS = dict(zip("ab", np.meshgrid(EVERY, EVERY, indexing="ij"), strict=True))


def same(
    model: onnx.ModelProto, inputs: dict[str, np.ndarray], names: tuple[str, ...] = ("y",)
) -> dict[str, np.ndarray]:
    """0 differing elements at both levels; returns the reference's tensors."""
    ours = run(model, inputs)
    for level in LEVELS:
        theirs = onnx_runtime(model, inputs, level)
        for name in names:
            assert ours[name].dtype == theirs[name].dtype
            assert ours[name].shape == theirs[name].shape
            assert np.count_nonzero(ours[name] != theirs[name]) == 0, f"{name} differs ({level})"
    return ours


def codes(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: Any = U8, low: int | None = None, high: int | None = None
) -> np.ndarray:
    info = np.iinfo(dtype)
    return rng.integers(info.min if low is None else low, (info.max if high is None else high) + 1, shape).astype(dtype)


def grids(rng: np.random.Generator, i: int) -> list[Any]:
    """Scales and zero points of a, b and y; every third set is dyadic, so that results hit ties."""
    scales = rng.integers(1, 9, 3) / 8 if i % 3 == 0 else rng.uniform((0.01, 0.01, 0.05), (1, 1, 2))
    return [(F(s), U8(z)) for s, z in zip(scales, rng.integers(0, 256, 3), strict=True)]
