"""QLinearAdd and QLinearMul: one table of 256 x 256 codes each, made by the float32 formula of the kernel.

    QLinearAdd   y = round_half_even(fma(a, r_a, fma(b, r_b, F))),   r = S / S_y,  F = Z_y - fma(r_a, Z_a, r_b·Z_b)
    QLinearMul   y = round_half_even((a - Z_a)·(b - Z_b)·R + Z_y),   R = float32(float32(S_a·S_b) / S_y)

Every operation rounds to float32, fma once for both of its operations; y is saturated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .node import MICROSOFT, Array, Inputs, Node, codes, operator, scale_of, zero_point_of
from .numeric import fma32, round_int32, saturate


@dataclass(frozen=True, kw_only=True)
class Operand:
    """Codes of an ONNX grid (E2), and the grid: the values are (codes - zero)·scale."""

    codes: Array
    scale: np.float32
    zero: int


def _operands(node: Node, x: Inputs) -> tuple[Operand, Operand]:
    a, b = (
        Operand(codes=codes(node, x, i), scale=scale_of(node, x, i + 1), zero=zero_point_of(node, x, i + 2))
        for i in (0, 3)
    )
    if a.codes.dtype != b.codes.dtype:
        raise node.error(f"inputs are {a.codes.dtype} and {b.codes.dtype}: one type is needed")
    return a, b


def _all_codes(dtype: np.dtype[np.generic]) -> Array:
    """The 256 codes as float32, ordered by their bytes."""
    return np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)


def _look_up(table: Array, a: Array, b: Array) -> Array:
    """table[a, b], broadcasting; table (256, 256) is ordered by bytes."""
    index: Array = a.view(np.uint8).astype(np.uint16) * np.uint16(256) + b.view(np.uint8)
    values: Array = table.reshape(-1)[index]
    return values


def first_is_spread(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether ONNX Runtime sees the first operand as a scalar in its innermost loop (and then swaps the operands).

    It looks at the innermost axis on which the shapes are not both 1, or the outermost axis of the shorter shape.
    """
    if not a or not b:
        return not a or a[-1] == 1
    pairs = list(zip(reversed(a), reversed(b), strict=False))
    return next((m == 1 for m, n in pairs if max(m, n) > 1), True)


@operator(f"{MICROSOFT}.QLinearAdd")
def qlinear_add(node: Node, x: Inputs) -> list[Array]:
    """The formula above, all in float32, in the order of ONNX Runtime's AVX2 kernel (mlas qladd_avx2).

    The kernel is compiled with fused multiply-add, and the zero points are folded into F: neither a - Z_a nor the sum
    is rounded on its own. A first operand that is broadcast swaps roles.
    """
    a, b = _operands(node, x)
    y_scale, y_zero = scale_of(node, x, 6), np.float32(zero_point_of(node, x, 7))
    swap = first_is_spread(a.codes.shape, b.codes.shape)
    first, second = (b, a) if swap else (a, b)
    ratio_1, ratio_2 = first.scale / y_scale, second.scale / y_scale
    constant = y_zero - fma32(ratio_1, first.zero, ratio_2 * np.float32(second.zero))
    q = _all_codes(a.codes.dtype)
    values = fma32(q[:, None], ratio_1, fma32(q, ratio_2, constant)[None, :])  # (code of first, code of second)
    table = saturate(round_int32(node, values), a.codes.dtype)
    return [_look_up(table, first.codes, second.codes)]


@operator(f"{MICROSOFT}.QLinearMul")
def qlinear_mul(node: Node, x: Inputs) -> list[Array]:
    """The formula above in float32, without fused multiply-add (mlas qlmul).

    Z_y is added *before* the rounding: with an odd Z_y, ties go the other way than in the requantization (E9).
    """
    a, b = _operands(node, x)
    ratio = a.scale * b.scale / scale_of(node, x, 6)
    q = _all_codes(a.codes.dtype)
    product = (q[:, None] - np.float32(a.zero)) * (q[None, :] - np.float32(b.zero))  # exact: below 2^17
    values = product * ratio + np.float32(zero_point_of(node, x, 7))
    table = saturate(round_int32(node, values), a.codes.dtype)
    return [_look_up(table, a.codes, b.codes)]
