"""The integer reference equals ONNX Runtime to the bit, for every operator, with graph optimization on and off."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest

from calib.errors import QuantizationError
from lsq_export.integer import accumulator_bounds, run
from lsq_export.integer.numeric import fma32
from lsq_export.integer.table import logistic
from support import oracle
from support.single_node import LEVELS, MICROSOFT, build, node, onnx_runtime

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


# ---- the two ends


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


# ---- E9: convolutions and matrix products

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


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_matmul_integer(dtype: Any) -> None:
    rng = np.random.default_rng(5)
    a, b = codes(rng, (7, 50)), codes(rng, (50, 9), dtype, *((-64, 64) if dtype == np.int8 else (0, 255)))
    zero = codes(rng, (9,), dtype, 0, 20)
    model = node("MatMulInteger", {"a": a}, [b, U8(30), zero], np.int32)
    assert np.array_equal(same(model, {"a": a})["y"], oracle.product(a, b, 30, list(zero)))
    assert accumulator_bounds(model)["node"] == (np.abs(b.astype(int) - zero).sum(axis=0) * 225).max()
    same(node("MatMulInteger", {"a": a}, [b], np.int32), {"a": a})
    stack = codes(rng, (3, 2, 7, 50))
    same(node("MatMulInteger", {"a": stack}, [b, U8(30), zero], np.int32), {"a": stack})


@pytest.mark.parametrize("output", ["uint8", "float32"])
@pytest.mark.parametrize("channelwise", [False, True])
@pytest.mark.parametrize("transposed", [0, 1])
def test_qgemm(transposed: int, channelwise: bool, output: str) -> None:
    rng = np.random.default_rng(6)
    a, b = codes(rng, (33, 70)), codes(rng, (70, 21), np.int8, -64, 64)
    scale, zero = (
        (rng.uniform(0.01, 0.02, 21).astype(F), np.zeros(21, np.int8)) if channelwise else (F(0.0173), np.int8(3))
    )
    bias = rng.integers(-90000, 90000, 21).astype(np.int32)
    end = [F(2.3), U8(113)] if output == "uint8" else []
    constants = [F(0.031), U8(17), b.T.copy() if transposed else b, scale, zero, bias, *end]
    model = node("QGemm", {"a": a}, constants, np.dtype(output), domain=MICROSOFT, transB=transposed)
    y = same(model, {"a": a})["y"]
    multiplier = np.broadcast_to(F(0.031) * scale, (21,))
    total = oracle.product(a, b, 17, [int(np.max(zero))] * 21) + bias
    if output == "uint8":
        assert np.array_equal(y, oracle.requantize(total, multiplier / F(2.3), 113))
    else:
        assert np.array_equal(y, total.astype(F) * multiplier)
    no_bias = node(
        "QGemm", {"a": a}, [*constants[:5], None, *end], np.dtype(output), domain=MICROSOFT, transB=transposed
    )
    same(no_bias, {"a": a})


def test_qgemm_with_a_deep_accumulator() -> None:
    rng = np.random.default_rng(7)
    a, b = codes(rng, (16, 3000), low=180), codes(rng, (3000, 10), low=180)
    model = node("QGemm", {"a": a}, [F(0.03), U8(0), b, F(0.01), U8(128), None, F(200), U8(0)], domain=MICROSOFT)
    assert accumulator_bounds(model)["node"] > 2**24
    same(model, {"a": a})


def test_qlinear_matmul() -> None:
    rng = np.random.default_rng(8)
    a, b = codes(rng, (2, 9, 40)), codes(rng, (40, 11), np.int8, -64, 64)
    same(node("QLinearMatMul", {"a": a}, [F(0.03), U8(11), b, F(0.02), np.int8(0), F(0.9), U8(99)]), {"a": a})


@pytest.mark.parametrize(
    "shapes",
    [((2, 3, 9, 40), (2, 3, 40, 11)), ((9, 40), (40, 11)), ((2, 1, 9, 40), (3, 40, 5)), ((1, 5, 700), (1, 700, 6))],
)
def test_qlinear_matmul_of_activations(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    rng = np.random.default_rng(24)
    for i in range(6):
        x = {"a": codes(rng, shapes[0]), "b": codes(rng, shapes[1])}
        (sa, _), (sb, _), _ = grids(rng, i)
        za, zb = U8(120 + i), U8(140 - i)  # products of both signs, so that sums use the whole range
        total = (x["a"].astype(np.int64) - za) @ (x["b"].astype(np.int64) - zb)
        sy = F(sa * sb * np.abs(total).max() / 128)
        y = same(node("QLinearMatMul", x, [sa, za, sb, zb, sy, U8(128 - i)], order="iccicccc"), x)["y"]
        assert len(np.unique(y)) > 10


# ---- tables of two operands: all 65,536 pairs


def test_fma_rounds_once() -> None:
    """Against exact fractions, with sums that sit just beside the middle of two float32 and of two float64."""
    rng = np.random.default_rng(20)
    a, b, c = (rng.uniform(-1, 1, 3000).astype(F) for _ in range(3))
    c[:1000] *= F(2.0**-26)  # the product decides, c breaks ties
    a[1000:1500], b[1000:1500], c[1000:1500] = (
        F(1 + 2**-12),
        F(1 - 2**-12 + 2**-23),
        rng.choice([-1, 1], 500).astype(F) * F(2.0**-60),
    )
    a[1500:1600], b[1500:1600], c[1500:1600] = (
        F(1 + 2**-12),
        F(1 + 2**-12),
        rng.choice([-1, 1], 100).astype(F) * F(2.0**-60),
    )  # tie + crumb
    for x, y, z, result in zip(a, b, c, fma32(a, b, c), strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        near = [result, np.nextafter(result, F(np.inf)), np.nextafter(result, F(-np.inf))]
        distance = [abs(Fraction(float(v)) - exact) for v in near]
        assert distance[0] == min(distance)
        assert (
            distance.count(min(distance)) == 1 or not int(np.asarray(result).view(np.int32)) & 1
        )  # a tie goes to even


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_binary_on_all_pairs(op: str) -> None:
    rng = np.random.default_rng(9)
    for i in range(30):
        (sa, za), (sb, zb), (sy, zy) = grids(rng, i)
        sy = sy * F(30) if op == "QLinearMul" and i % 3 else sy
        model = node(op, PAIRS, [sa, za, sb, zb, sy, zy], domain=MICROSOFT, order="iccicccc")
        same(model, PAIRS)


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_binary_with_signed_codes(op: str) -> None:
    pairs = {name: value.view(np.int8) for name, value in PAIRS.items()}
    constants = [F(0.031), np.int8(-9), F(0.17), np.int8(30), F(0.21), np.int8(-17)]
    same(node(op, pairs, constants, np.int8, domain=MICROSOFT, order="iccicccc"), pairs)


SHAPES = [
    ((2, 3, 4, 5), ()),
    ((), (7,)),
    ((1,), (1,)),
    ((4, 1), (1,)),
    ((4, 1), ()),
    ((1,), (4, 1)),
    ((2, 3, 4, 5), (1,)),
    ((1, 1), (6, 5)),
]
SHAPES += [
    ((2, 6, 4, 5), (6, 1, 1)),
    ((6, 1, 1), (2, 6, 4, 5)),
    ((2, 3, 4, 5), (5,)),
    ((4, 1, 5), (3, 1)),
    ((3, 1), (4, 1, 5)),
    ((8, 1, 1), (8, 1, 1)),
]


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_binary_broadcasts_like_onnx_runtime(op: str) -> None:
    """Every pair of shapes 40 times: a broadcast first operand changes the order of QLinearAdd's arithmetic."""
    rng = np.random.default_rng(10)
    for i in range(40):
        (sa, za), (sb, zb), (sy, zy) = grids(rng, i)
        for shapes in SHAPES:
            inputs = {name: codes(rng, shape) for name, shape in zip("ab", shapes, strict=True)}
            model = node(op, inputs, [sa, za, sb, zb, sy, zy], domain=MICROSOFT, order="iccicccc")
            ours = run(model, inputs)["y"]
            assert np.array_equal(ours, onnx_runtime(model, inputs, "plain")["y"]), shapes


def test_a_broadcast_first_operand_swaps_the_order_of_the_sum() -> None:
    """All 65,536 pairs, the first operand constant within a row."""
    rng = np.random.default_rng(11)
    for i in range(12):
        (sa, za), (sb, zb), (sy, zy) = grids(rng, i)
        for inputs in ({"a": EVERY[:, None], "b": PAIRS["b"]}, {"a": PAIRS["b"], "b": EVERY[:, None]}):
            same(node("QLinearAdd", inputs, [sa, za, sb, zb, sy, zy], domain=MICROSOFT, order="iccicccc"), inputs)


# ---- tables of one operand: all 256 codes


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize(
    "op",
    [
        "QLinearLeakyRelu alpha=1",
        "QLinearLeakyRelu alpha=0",
        "QLinearLeakyRelu alpha=0.1",
        "QLinearLeakyRelu alpha=-1",
        "QLinearSigmoid",
    ],
)
def test_tables_on_all_codes(op: str, dtype: Any) -> None:
    rng = np.random.default_rng(12)
    x = EVERY.view(dtype).reshape(1, 256)
    name, _, alpha = op.partition(" alpha=")
    attributes = {"alpha": float(alpha)} if alpha else {}
    for i in range(20):
        (sx, zx), (sy, zy), _ = grids(rng, i)
        constants = [sx, zx.astype(dtype), sy * F(0.01 if name == "QLinearSigmoid" else 1), zy.astype(dtype)]
        same(node(name, {"x": x}, constants, dtype, domain=MICROSOFT, **attributes), {"x": x})


def test_logistic_is_that_of_the_runtime_to_the_bit() -> None:
    """The float operator shares its kernel with the table."""
    x = np.random.default_rng(21).normal(0, 5, (1, 100_000)).astype(F)
    assert np.array_equal(logistic(x), onnx_runtime(node("Sigmoid", {"x": x}, [], F), {"x": x}, "plain")["y"])


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_leaky_relu_spreads_codes_and_clips(bits: int) -> None:
    """E5: c = k * q + 255 - k * p; q above p saturates to the code of p."""
    top = 2**bits - 1
    for k in range(1, 255 // top + 1):
        scale = F(0.37)
        x = EVERY.reshape(1, 256)
        y = same(
            node(
                "QLinearLeakyRelu",
                {"x": x},
                [scale, U8(0), F(scale / k), U8(255 - k * top)],
                domain=MICROSOFT,
                alpha=1.0,
            ),
            {"x": x},
        )["y"]
        assert np.array_equal(y[0], np.minimum(np.arange(256), top) * k + 255 - k * top)


def test_qlinear_concat() -> None:
    rng = np.random.default_rng(13)
    x = {"a": codes(rng, (2, 3, 5)), "b": EVERY.reshape(2, 1, 128)[:, :, :5].copy(), "c": codes(rng, (2, 4, 5))}
    constants = [F(0.04), U8(10), F(0.04), U8(10), F(0.03), U8(0), F(0.11), U8(200)]  # a: same grid, a copy
    same(node("QLinearConcat", x, constants, domain=MICROSOFT, order="cciccicci" + "cc", axis=1), x)
    full = {"a": EVERY.reshape(1, 256), "b": EVERY.reshape(1, 256)}
    for i in range(10):
        (sa, za), (sb, zb), (sy, zy) = grids(rng, i)
        same(node("QLinearConcat", full, [sy, zy, sa, za, sb, zb], domain=MICROSOFT, order="cciccicc", axis=0), full)


# ---- pools


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


# ---- moving codes

MOVES: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "Reshape": ("Reshape", [np.array([2, -1])], {}),
    "Flatten": ("Flatten", [], {"axis": 2}),
    "Transpose": ("Transpose", [], {"perm": [0, 2, 3, 1]}),
    "Clip": ("Clip", [U8(3), U8(15)], {}),
    "Clip from above": ("Clip", [None, U8(15)], {}),
    "Pad": ("Pad", [np.array([0, 0, 1, 2, 0, 0, 3, 0]), U8(7)], {}),
    "Pad of channels": ("Pad", [np.array([0, 2, -1, 0, 0, 1, 0, 0]), U8(7)], {}),
    "Pad reflect": ("Pad", [np.array([0, 0, 1, 2, 0, 0, 3, 0])], {"mode": "reflect"}),
    "Pad edge": ("Pad", [np.array([0, 0, 1, 2, 0, 0, 3, 0])], {"mode": "edge"}),
    "DepthToSpace": ("DepthToSpace", [], {"blocksize": 2, "mode": "CRD"}),
    "Flip": ("Slice", [np.array([-1]), np.array([np.iinfo(np.int64).min]), np.array([3]), np.array([-1])], {}),
    "Gather one": ("Gather", [np.array(1)], {"axis": 1}),
    "Slice": ("Slice", [np.array([1, 0]), np.array([3, 4]), np.array([1, 3]), np.array([1, 2])], {}),
    "Squeeze": ("Squeeze", [np.array([0])], {}),
    "Unsqueeze": ("Unsqueeze", [np.array([1, 3])], {}),
    "Identity": ("Identity", [], {}),
    "Gather": ("Gather", [np.array([2, 0])], {"axis": 1}),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves(name: str) -> None:
    op, constants, attributes = MOVES[name]
    x = codes(np.random.default_rng(17), (1 if name == "Squeeze" else 2, 4, 5, 6))
    same(node(op, {"x": x}, constants, **attributes), {"x": x})


@pytest.mark.parametrize("scale", [(2, 2), (3, 1), (1.5, 2.5), (13 / 5, 17 / 6), (0.5, 0.75), (7 / 5, 11 / 6)])
def test_resize(scale: tuple[float, float]) -> None:
    x = {"x": codes(np.random.default_rng(25), (2, 3, 5, 6))}
    constants = [None, np.array([1, 1, *scale], F)]
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    same(node("Resize", x, constants, **how), x)
    with pytest.raises(QuantizationError, match=r"Resize by nearest, half_pixel, floor is not supported"):
        run(node("Resize", x, constants, **{**how, "coordinate_transformation_mode": "half_pixel"}), x)


def test_split_concat_and_int32_add() -> None:
    rng = np.random.default_rng(18)
    x = {"x": codes(rng, (2, 6, 5))}
    nodes = [
        onnx.helper.make_node("Split", ["x", "parts"], ["p", "q"], axis=1),
        onnx.helper.make_node("Concat", ["q", "p", "q"], ["y"], axis=1),
    ]
    same(build(nodes, x, {"p": U8, "q": U8, "y": U8}, {"parts": np.array([2, 4])}), x, ("p", "q", "y"))
    pair = {
        "a": rng.integers(-(2**30), 2**30, (3, 4)).astype(np.int32),
        "b": rng.integers(-(2**30), 2**30, 4).astype(np.int32),
    }
    same(node("Add", pair, [], np.int32), pair)


# ---- whole graphs


def network(batch: int = 2, size: int = 12) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Quantize, stem, max pool, a residual block, global average pool, classifier: all codes are graph outputs."""
    rng = np.random.default_rng(19)
    x = {"x": rng.normal(0, 1, (batch, 3, size, size)).astype(F)}
    constants: dict[str, Any] = {
        "s": F(0.02),
        "z": U8(118),
        "bs": F(0.01),
        "t": F(0.09),
        "o": U8(60),
        "zero": U8(0),
        "iz": np.int8(0),
        "axes": np.array([2, 3]),
    }
    constants |= {
        f"w{i}": codes(rng, shape, np.int8, -60, 60)
        for i, shape in enumerate([(16, 3, 3, 3), (16, 16, 3, 3), (10, 16)])
    }
    constants |= {f"b{i}": rng.integers(-900, 900, n).astype(np.int32) for i, n in enumerate([16, 16, 10])}
    make = onnx.helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["c0"]),
        make("QLinearConv", ["c0", "s", "z", "w0", "bs", "iz", "t", "zero", "b0"], ["c1"], "stem", pads=[1, 1, 1, 1]),
        make("MaxPool", ["c1"], ["c2"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        make("QLinearConv", ["c2", "t", "zero", "w1", "bs", "iz", "t", "o", "b1"], ["c3"], "block", pads=[1, 1, 1, 1]),
        make("QLinearAdd", ["c3", "t", "o", "c2", "t", "zero", "t", "o"], ["c4"], domain=MICROSOFT),
        make("QLinearLeakyRelu", ["c4", "t", "o", "t", "zero"], ["c5"], domain=MICROSOFT, alpha=0.0),
        make("QLinearGlobalAveragePool", ["c5", "t", "zero", "bs", "zero"], ["c6"], domain=MICROSOFT, channels_last=0),
        make("Squeeze", ["c6", "axes"], ["c7"]),
        make("QGemm", ["c7", "bs", "zero", "w2", "bs", "iz", "b2"], ["y"], "classifier", domain=MICROSOFT, transB=1),
    ]
    outputs = {f"c{i}": U8 for i in range(8)} | {"y": F}
    return build(nodes, x, outputs, constants), x


def test_every_tensor_of_a_network() -> None:
    model, x = network()
    ours = same(model, x, (*(f"c{i}" for i in range(8)), "y"))
    assert set(ours) == {"x", "y", *(f"c{i}" for i in range(8))}
    del model.graph.output[:8]  # only y: the optimizer may now change the layout
    same(model, x)


def test_outputs_selects_and_on_tensor_sees_all(tmp_path: Any) -> None:
    model, x = network()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    everything = run(path, x)
    seen: list[str] = []
    assert set(run(path, x, outputs=["c4"], on_tensor=lambda name, _: seen.append(name))) == {"c4"}
    assert seen == [*(f"c{i}" for i in range(8)), "y"]
    some = run(str(path), x, outputs=["c2", "y"])
    assert all(np.array_equal(some[name], everything[name]) for name in ("c2", "y"))
    assert set(accumulator_bounds(path)) == {"stem", "block", "classifier"}


@pytest.mark.parametrize("broken", ["s", "t", "z", "o", "bs", "b1", "w1"])
def test_a_sabotaged_constant_shows(broken: str) -> None:
    """A doubled scale, and a zero point or a bias that is off by one, change codes: the comparisons can fail."""
    model, x = network()
    good = run(model, x)
    for tensor in model.graph.initializer:
        if tensor.name == broken:
            value = onnx.numpy_helper.to_array(tensor)
            wrong = value * 2 if value.dtype == F else value + value.dtype.type(1)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(wrong), broken))
    bad = run(model, x)
    assert any(np.any(good[name] != bad[name]) for name in good)


# ---- float islands: float64, rounded once

FUNCTIONS: dict[str, Any] = {
    "Celu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "Cos": np.cos,
    "Elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "Erf": np.vectorize(math.erf),
    "Exp": np.exp,
    "Gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "Log": np.log,
    "LogSoftmax": lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True)),
    "Mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "Reciprocal": lambda x: 1 / x,
    "Selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "Sin": np.sin,
    "Softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "Softplus": lambda x: np.log1p(np.exp(x)),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sqrt": np.sqrt,
}


@pytest.mark.parametrize("op", FUNCTIONS)
def test_islands(op: str) -> None:
    """Within one unit in the last place of the correctly rounded value; ONNX Runtime's float32 within some more."""
    x = np.random.default_rng(26).normal(0, 2, (1, 5000)).astype(F)
    x = np.abs(x) + F(0.01) if op in ("Log", "Sqrt") else x
    model = node(op, {"x": x}, [], F)
    model.opset_import[0].version = 20 if op == "Gelu" else 21
    ours, exact = run(model, {"x": x})["y"], FUNCTIONS[op](x.astype(np.float64))
    one_place = 1.01 * np.spacing(np.abs(exact).astype(F)) + 1e-7 * (op in ("LogSoftmax", "Selu"))
    assert ours.dtype == F and np.all(np.abs(ours - exact) <= one_place)
    assert np.abs(onnx_runtime(model, {"x": x}, "plain")["y"] - exact).max() <= 4e-6 * max(1.0, np.abs(exact).max())


def test_given_tensors_take_the_place_of_computed_ones() -> None:
    model, x = network()
    computed: dict[str, np.ndarray] = {}
    given = {"c2": np.zeros_like(run(model, x)["c2"])}
    tensors = run(model, x, given=given, on_tensor=computed.__setitem__)
    plain = run(model, x)
    assert np.array_equal(computed["c2"], plain["c2"]) and np.array_equal(tensors["c2"], given["c2"])
    assert np.array_equal(tensors["c1"], plain["c1"]) and not np.array_equal(tensors["c3"], plain["c3"])


def test_islands_of_codes_are_refused() -> None:
    says = r"node node \(Sin\): its input x is uint8: a float island computes in float32"
    with pytest.raises(QuantizationError, match=says):
        run(node("Sin", {"x": EVERY}, []), {"x": EVERY})


# ---- refusals: one line that names the node and its operator


@pytest.mark.parametrize("op", ["Relu", "Sigmoid", "Conv", "BitwiseAnd"])
def test_unknown_operators_are_refused(op: str) -> None:
    x = {"x": np.zeros((1, 3), F)}
    with pytest.raises(QuantizationError, match=rf"node node \({op}\).*does not know"):
        run(node(op, x, [], F), x)


@pytest.mark.parametrize("op", ["Add", "Clip"])
def test_float_arithmetic_is_refused(op: str) -> None:
    x = {"x": np.zeros((1, 3), F)}
    with pytest.raises(QuantizationError, match=rf"node node \({op}\).*float32 arithmetic"):
        run(node(op, x, [F(1), F(2)][: 1 if op == "Add" else 2], F), x)


def test_accumulators_over_32_bits_are_refused() -> None:
    x = {"x": np.zeros((1, 3), U8)}
    w = np.full((3, 2), 255, U8)
    model = node(
        "QGemm", x, [F(1), U8(0), w, F(1), U8(0), np.full(2, 2**31 - 1, np.int32), F(1), U8(0)], domain=MICROSOFT
    )
    for attempt in (lambda: run(model, x), lambda: accumulator_bounds(model)):
        with pytest.raises(QuantizationError, match=r"node node \(com.microsoft.QGemm\).*over 32 bits"):
            attempt()


def test_bad_inputs_are_refused() -> None:
    model, x = network()
    with pytest.raises(QuantizationError, match="input x is missing"):
        run(model, {})
    with pytest.raises(QuantizationError, match="no input z"):
        run(model, {**x, "z": x["x"]})
    with pytest.raises(QuantizationError, match="float64, the model takes float32"):
        run(model, {"x": x["x"].astype(np.float64)})
    with pytest.raises(QuantizationError, match="NaN"):
        run(model, {"x": x["x"] * F(np.nan)})
    with pytest.raises(QuantizationError, match="tensor c9 is not in the model"):
        run(model, x, outputs=["c9"])
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "t")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.asarray(F(-1)), "t"))
    with pytest.raises(QuantizationError, match=r"scale t is -1\.0"):
        run(model, x)
