"""QGemm and QLinearMatMul, an accumulator and a requantization (E9), and MatMulInteger, the accumulator alone.

    acc = (A - Z_a) @ (B - z_b) + bias
    y   = clamp(round_half_even(float32(acc)·M) + Z_y),   M = float32(float32(S_a·s_b) / S_y)

z_b, s_b and with them M are one number for each column of B, or one for all.
"""

from __future__ import annotations

import numpy as np

from .node import (
    MICROSOFT,
    Array,
    Inputs,
    Node,
    codes,
    operator,
    optional,
    per_channel,
    required,
    scale_of,
    zero_point_of,
)
from .numeric import accumulator_bound, check_accumulator, exact_float, requantize


def columns_bound(
    b: Array, b_zero: Array | None, input_type: np.dtype[np.generic], input_zero: int, bias: Array | None = None
) -> int:
    """The largest |accumulator| of A @ B + bias for any A (bounds.py); b (..., K, N), b_zero (N,), bias (N,)."""
    rows = b.swapaxes(-1, -2).reshape(-1, b.shape[-2])  # (... * N, K)
    repeats = rows.shape[0] // b.shape[-1]
    zero = 0 if b_zero is None else np.tile(b_zero, repeats)
    return accumulator_bound(rows, zero, input_type, input_zero, None if bias is None else np.tile(bias, repeats))


def gemm_weight(node: Node, x: Inputs) -> Array:
    """B of a QGemm as (K, N)."""
    b = codes(node, x, 3)
    return b.T if node.attributes.get("transB", 0) else b


def gemm_bias(node: Node, x: Inputs, columns: int) -> Array | None:
    """C of a QGemm as (N,) int32."""
    bias = optional(x, 6)
    if bias is None:
        return None
    if bias.dtype != np.int32 or bias.size not in (1, columns) or (bias.ndim == 2 and bias.shape[0] != 1):
        raise node.error(f"bias is {bias.dtype}{list(bias.shape)}: int32[{columns}] is needed")
    return np.broadcast_to(bias.reshape(-1), (columns,))


def product(node: Node, a: Array, a_zero: int, b: Array, b_zero: Array | None, bias: Array | None = None) -> Array:
    """Exact (A - z_a) @ (B - z_b) + bias, integers in a float type (exact_float)."""
    number = exact_float(check_accumulator(node, columns_bound(b, b_zero, a.dtype, a_zero, bias)))
    weight = b.astype(number)  # a sum of two 8-bit codes is exact there, too
    weight -= number(0) if b_zero is None else b_zero.astype(number)
    total: Array = (a.astype(np.int32) - a_zero).astype(number) @ weight
    return total if bias is None else total + bias.astype(number)


@operator(f"{MICROSOFT}.QGemm")
def qgemm(node: Node, x: Inputs) -> list[Array]:
    """The requantization (E9); inputs a, a_scale, a_zero, b, b_scale, b_zero, bias, y_scale, y_zero.

    Without y_scale and y_zero the output is float32: float32(acc) * float32(S_a * s_b).
    """
    if float(node.attributes.get("alpha", 1.0)) != 1.0:
        raise node.error(f"alpha {node.attributes['alpha']} is not supported: put it into a scale")
    a, b = codes(node, x, 0), gemm_weight(node, x)
    a = a.T if node.attributes.get("transA", 0) else a
    b_scale = per_channel(node, x, 4, b.shape[1])
    if b_scale is None or b_scale.dtype != np.float32:
        raise node.error("its weight needs a float32 scale")
    b_zero = per_channel(node, x, 5, b.shape[1])
    total = product(node, a, zero_point_of(node, x, 2), b, b_zero, gemm_bias(node, x, b.shape[1]))
    multiplier = scale_of(node, x, 1) * b_scale  # (N,) float32
    y_zero = optional(x, 8)
    if y_zero is None:
        if optional(x, 7) is not None:
            raise node.error("it has y_scale without y_zero_point: give both or none")
        return [total.astype(np.float32) * multiplier]
    return [requantize(total, multiplier / scale_of(node, x, 7), int(y_zero.reshape(())[()]), y_zero.dtype)]


@operator("QLinearMatMul", f"{MICROSOFT}.QLinearMatMul")
def qlinear_matmul(node: Node, x: Inputs) -> list[Array]:
    """The requantization (E9); inputs a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero."""
    a, b, y_zero = codes(node, x, 0), codes(node, x, 3), required(node, x, 7)
    b_scale = per_channel(node, x, 4, b.shape[-1])
    if b_scale is None or b_scale.dtype != np.float32:
        raise node.error("its weight needs a float32 scale")
    total = product(node, a, zero_point_of(node, x, 2), b, per_channel(node, x, 5, b.shape[-1]))
    multiplier = scale_of(node, x, 1) * b_scale / scale_of(node, x, 6)
    return [requantize(total, multiplier, int(y_zero.reshape(())[()]), y_zero.dtype)]


@operator("MatMulInteger")
def matmul_integer(node: Node, x: Inputs) -> list[Array]:
    """The accumulator itself, int32; inputs a, b, a_zero, b_zero."""
    a, b = codes(node, x, 0), codes(node, x, 1)
    total = product(node, a, zero_point_of(node, x, 2), b, per_channel(node, x, 3, b.shape[-1]))
    return [np.asarray(total.astype(np.int32))]
