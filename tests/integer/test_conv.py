"""QLinearConv and ConvInteger equal ONNX Runtime to the bit, with graph optimization on and off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lsq_export.integer import accumulator_bounds, run
from support import oracle
from support.integer_reference import U8, F, codes, same
from support.single_node import MICROSOFT, node

CONVOLUTIONS = {  # shape of x, output channels, kernel, attributes
    "1x1": ((2, 16, 7, 5), 32, (1, 1), {}),
    "3x3": ((2, 16, 9, 8), 16, (3, 3), {"pads": [1, 1, 1, 1]}),
    "one image, few channels": ((1, 3, 9, 8), 5, (3, 3), {"pads": [1, 1, 1, 1]}),
    "5x5 stride 2, asymmetric pads": ((3, 5, 11, 12), 7, (5, 5), {"pads": [2, 0, 1, 3], "strides": [2, 2]}),
    "7x7 stem": ((2, 3, 20, 20), 16, (7, 7), {"pads": [3, 3, 3, 3], "strides": [2, 2]}),
    "2x4 stride 1x3": ((2, 6, 10, 17), 4, (2, 4), {"pads": [1, 0, 0, 2], "strides": [1, 3]}),
    "dilated": ((2, 16, 13, 14), 16, (3, 3), {"pads": [2, 2, 2, 2], "dilations": [2, 2]}),
    "dilated 3x2, asymmetric": ((1, 4, 13, 14), 6, (3, 2), {"pads": [3, 0, 1, 1], "dilations": [3, 2]}),
    "groups": ((2, 32, 8, 8), 32, (3, 3), {"pads": [1, 1, 1, 1], "group": 4}),
    "depthwise": ((2, 32, 8, 9), 32, (3, 3), {"pads": [1, 1, 1, 1], "group": 32}),
    "depthwise 5x5 stride 2": ((2, 17, 8, 9), 17, (5, 5), {"pads": [2, 2, 2, 2], "group": 17, "strides": [2, 2]}),
    "depthwise, multiplier 2": ((2, 8, 8, 9), 16, (3, 3), {"pads": [1, 0, 0, 1], "group": 8}),
    "SAME_UPPER": ((2, 4, 8, 9), 4, (3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "SAME_LOWER": ((2, 4, 8, 9), 4, (2, 4), {"auto_pad": "SAME_LOWER"}),
    "VALID": ((2, 4, 8, 9), 4, (3, 3), {"auto_pad": "VALID"}),
    "1-d": ((2, 4, 30), 8, (3,), {"pads": [1, 2], "strides": [2]}),
    "3-d": ((1, 3, 6, 7, 5), 4, (3, 2, 3), {"pads": [1, 0, 1, 1, 1, 0]}),
    "accumulators beyond 2^24": ((1, 600, 6, 6), 8, (3, 3), {"pads": [1, 1, 1, 1]}),
}


@pytest.mark.parametrize("weights", ["int8 per tensor", "int8 per channel", "uint8 around 128"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_qlinear_conv(name: str, weights: str) -> None:
    shape, channels, kernel, attributes = CONVOLUTIONS[name]
    rng = np.random.default_rng(len(name))
    x = codes(rng, shape)
    w_shape = (channels, shape[1] // attributes.get("group", 1), *kernel)
    big = name == "accumulators beyond 2^24"
    if weights == "uint8 around 128":
        w, w_zero = codes(rng, w_shape, low=200 if big else 0), U8(128)
    else:
        w, w_zero = codes(rng, w_shape, np.int8, 40 if big else -64, 64), np.int8(0)  # |w| <= 64: E7
    scale = F(0.013)
    if weights == "int8 per channel":
        scale, w_zero = rng.uniform(0.001, 0.03, channels).astype(F), np.zeros(channels, np.int8)
    bias = rng.integers(-20000, 20000, channels).astype(np.int32)
    x_zero = U8(3 if big else 77)
    flat = w.reshape(channels, -1).astype(np.int64) - int(w_zero.reshape(-1)[0])
    spread = np.abs(flat).sum(axis=1).max() * (150 if big else 2)  # so that codes use the whole range
    y_scale = F(0.05 * np.max(scale) * spread / 128)
    constants = [F(0.05), x_zero, w, scale, w_zero, y_scale, U8(121), bias]
    model = node("QLinearConv", {"x": x}, constants, **attributes)
    y = same(model, {"x": x})["y"]
    assert len(np.unique(y)) > 10  # the comparison means something
    bound = accumulator_bounds(model)["node"]
    assert bound == np.max(np.abs(flat).sum(axis=1) * max(int(x_zero), 255 - int(x_zero)) + np.abs(bias))
    assert (bound > 2**24) == big


def test_accumulators_beyond_float32_are_rounded_once() -> None:
    """Odd accumulators above 2^24, multiplied by a power of two: one rounding (int32 -> float32) shows."""
    rng = np.random.default_rng(3)
    x, w = codes(rng, (2, 2048, 3, 3), low=200), codes(rng, (16, 2048, 1, 1), np.int8, 50, 64)
    bias = np.arange(16, dtype=np.int32)
    total = oracle.convolution(x, w, bias=bias)
    assert total.min() > 2**24
    half = int(np.median(total))
    model = node("QLinearConv", {"x": x}, [F(1), U8(0), w, F(1), np.int8(0), F(2**12), U8(0), bias - np.int32(half)])
    y = same(model, {"x": x})["y"]
    assert np.array_equal(y, oracle.requantize(total - half, [2.0**-12] * 16, 0))


def test_requantization_at_near_ties() -> None:
    """Accumulators at which another order of the operations of the requantization (E9) gives another code.

    A bias can hold any accumulator.
    """
    rng = np.random.default_rng(22)
    halves, count = np.arange(100, 255) + 0.5, 0
    for _ in range(12):
        sx, sw, sy = rng.uniform((0.001, 0.001, 0.1), (0.01, 0.01, 1)).astype(F)
        multipliers = sx * sw / sy, sx * (sw / sy), F(float(sx) * float(sw) / float(sy))
        near = np.rint(halves / float(multipliers[0]))[:, None] + np.array([-1, 0, 1])
        near = near[near < 2**24].astype(F)
        right, *wrong = (np.rint(near * m) for m in multipliers)
        bias = np.concatenate([near[right != other] for other in wrong]).astype(np.int32)
        count += bias.size
        if bias.size:
            x, w = np.zeros((1, 1, 1, 1), U8), np.zeros((bias.size, 1, 1, 1), np.int8)
            same(node("QLinearConv", {"x": x}, [sx, U8(0), w, sw, np.int8(0), sy, U8(0), bias]), {"x": x})
            constants = [sx, U8(0), w.reshape(1, -1), sw, np.int8(0), bias, sy, U8(0)]
            same(node("QGemm", {"x": x[0, 0]}, constants, domain=MICROSOFT), {"x": x[0, 0]})
    assert count > 100


def test_conv_against_plain_loops() -> None:
    rng = np.random.default_rng(4)
    x, w = codes(rng, (2, 6, 5, 6)), codes(rng, (4, 3, 3, 2))
    zero = codes(rng, (4,))
    bias = rng.integers(-5000, 5000, 4).astype(np.int32)
    geometry: dict[str, Any] = {"strides": (2, 1), "dilations": (1, 2), "pads": (1, 2, 0, 1)}
    scales = rng.uniform(0.001, 0.01, 4).astype(F)
    model = node(
        "QLinearConv",
        {"x": x},
        [F(0.02), U8(9), w, scales, zero, F(0.5), U8(100), bias],
        group=2,
        **{k: list(v) for k, v in geometry.items()},
    )
    total = oracle.convolution(x, w, x_zero=9, w_zero=list(zero), bias=list(bias), groups=2, **geometry)
    assert np.array_equal(run(model, {"x": x})["y"], oracle.requantize(total, F(0.02) * scales / F(0.5), 100))
    integer = node(
        "ConvInteger",
        {"x": x},
        [w, U8(9), zero[:1].reshape(())],
        np.int32,
        group=2,
        **{k: list(v) for k, v in geometry.items()},
    )
    plain = oracle.convolution(x, w, x_zero=9, w_zero=int(zero[0]), groups=2, **geometry)
    assert np.array_equal(same(integer, {"x": x})["y"], plain)
