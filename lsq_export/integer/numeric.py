"""Float32 and integer arithmetic that several operators share: the requantization (E9) and the bound of accumulators.

    y = clamp(round_half_even(float32(acc)·M) + Z_y)

acc is exact; the conversion to float32 and the product with M round.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .node import Array, Node

INT32_LIMIT = 2**31
BLOCK = 2**22  # weights looked at at once
FLOAT32_EXACT = 2**24  # every integer of at most this magnitude is a float32


def saturate(values: Array, dtype: npt.DTypeLike) -> Array:
    """Whole numbers in any type -> codes of an integer type, clipped to its range first."""
    info = np.iinfo(dtype)
    return values.clip(info.min, info.max).astype(dtype)


def requantize(accumulator: Array, multiplier: Array, zero_point: int, dtype: npt.DTypeLike) -> Array:
    """The requantization (E9): accumulator -> codes.

    accumulator: exact integers, channels on axis 0. multiplier: float32, broadcasts. ONNX Runtime saturates before it
    adds Z_y, which gives the same codes.
    """
    scaled = accumulator.astype(np.float32)  # rounds half to even above 2^24, as the int32 -> float32 conversion does
    scaled *= multiplier
    np.rint(scaled, out=scaled)
    scaled += np.float32(zero_point)
    return saturate(scaled, dtype)


def fma32(a: Any, b: Any, c: Any) -> Array:
    """float32 fused multiply-add: a * b + c with one rounding, element by element.

    The product of two float32 is exact in float64. The sum is rounded to odd (exact error by Knuth's two-sum), so
    that the second rounding, to float32, gives the correctly rounded result.
    """
    left, right, addend = (np.asarray(v, np.float32).astype(np.float64) for v in (a, b, c))
    product = np.asarray(left * right)
    total = np.asarray(product + addend)
    carried = total - product
    error = (product - (total - carried)) + (addend - carried)
    even = (total.view(np.int64) & 1) == 0
    toward = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where((error != 0) & even, toward, total).astype(np.float32)


def round_int32(node: Node, values: Array) -> Array:
    """Round half to even, refusing what the int32 conversion of a kernel cannot hold."""
    largest = float(np.abs(values).max(initial=0.0))
    if not largest < INT32_LIMIT:
        raise node.error(
            f"a value of {largest:.3g} output steps does not fit int32; the input scales are too large for the output "
            "scale"
        )
    rounded: Array = np.rint(values)
    return rounded


def accumulator_bound(
    weight: Array, weight_zero: Array | int, input_type: npt.DTypeLike, input_zero: int, bias: Array | None
) -> int:
    """The largest |accumulator| that any input can produce; weight (channels, products of one output).

    max over channels of sum|w - z_w| * max|x - Z_x| + |bias|, over all codes x of the input's container.
    """
    info = np.iinfo(input_type)
    reach = max(input_zero - int(info.min), int(info.max) - input_zero)
    zero = np.asarray(weight_zero, np.int16).reshape(-1, 1)  # of 8 bits, as the weights
    rows = max(1, BLOCK // max(1, weight.shape[1]))
    parts = [
        np.abs(weight[i : i + rows].astype(np.int16) - (zero if len(zero) == 1 else zero[i : i + rows])).sum(
            axis=1, dtype=np.int64
        )
        for i in range(0, len(weight), rows)
    ]
    sums = np.concatenate([*parts, np.zeros(0, np.int64)]) * reach
    if bias is not None:
        sums = sums + np.abs(bias.astype(np.int64))
    return int(sums.max(initial=0))


def check_accumulator(node: Node, bound: int) -> int:
    """The bound itself, if the accumulator fits 32 bits."""
    if bound >= INT32_LIMIT:
        raise node.error(
            f"its accumulator can reach {bound}: over 32 bits; use fewer weight bits, a smaller gain or fewer input "
            "channels"
        )
    return bound


def exact_float(bound: int) -> type[np.float32] | type[np.float64]:
    """The narrowest float type in which every partial sum of products is an exact integer, in any order of summing.

    Partial sums are integers of at most `bound`: exact in float32 up to 2^24 and in float64 up to 2^53, with FMA and
    without. BLAS multiplies matrices of floats over 100 times faster than numpy multiplies integers.
    """
    return np.float32 if bound < FLOAT32_EXACT else np.float64
