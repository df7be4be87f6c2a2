"""Quantization grids: the only place that computes the code of a value, or a zero point.

The trained grid (E1; LSQ+ eq. 1-2):

    q = clamp(round((x - offset) / scale), qmin, qmax)      x_hat = scale * q + offset

The ONNX grid (E2):

    c = saturate(round(x / scale) + zero_point)             x_hat = scale * (c - zero_point)

`round` is half-to-even everywhere. The functions take numpy arrays and torch tensors alike; scale and offset are
numbers or arrays that broadcast against x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import QuantizationError

FloatArray = NDArray[np.float64]


def code_range(bits: int, signed: bool) -> tuple[int, int]:
    """(qmin, qmax) of a b-bit code: -2^(b-1) … 2^(b-1) - 1, or 0 … 2^b - 1."""
    if not 2 <= bits <= 8:
        raise QuantizationError(f"bits={bits}: use 2 to 8")
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def quantize(x: Any, scale: Any, offset: Any, qmin: int, qmax: int) -> Any:
    """Codes of x on the trained grid (E1), in the (floating) type and shape of x."""
    return ((x - offset) / scale).round().clip(qmin, qmax)


def dequantize(q: Any, scale: Any, offset: Any) -> Any:
    """Values of codes on the trained grid (E1)."""
    return q * scale + offset


def quantize_linear(x: Any, scale: Any, zero_point: Any, low: int, high: int) -> Any:
    """Codes of x on the ONNX grid (E2) as QuantizeLinear makes them, still in a floating type."""
    return ((x / scale).round() + zero_point).clip(low, high)


def dequantize_linear(c: Any, scale: Any, zero_point: Any) -> Any:
    """Values of codes on the ONNX grid (E2) as DequantizeLinear makes them."""
    return (c - zero_point) * scale


def zero_point_of(offset: Any, scale: Any, *, spread: int = 1) -> Any:
    """round(-k * offset / scale), an integer in a floating type: how many steps real zero lies above code 0.

    spread: the k of spreading (E5), where there are k steps for each code; the result is not clipped to a container.
    """
    return np.rint(-spread * offset / scale)


# The same two grids for torch tensors, with one new tensor instead of up to six: allocating memory costs more than the
# arithmetic. The results are those of the functions above, to the bit. offset None: 0.


def position(x: Any, scale: Any, offset: Any | None) -> Any:
    """Where x lies among the codes (E1): (x - offset) / scale, neither rounded nor clipped. A new tensor."""
    return x / scale if offset is None else (x - offset).div_(scale)


def snap_(v: Any, scale: Any, offset: Any | None, qmin: int, qmax: int) -> Any:
    """Values x_hat on the trained grid (E1) from positions; v itself is overwritten."""
    values = codes_(v, qmin, qmax).mul_(scale)
    return values if offset is None else values.add_(offset)


def codes_(v: Any, qmin: int, qmax: int, zero_point: Any | None = None) -> Any:
    """Codes from positions (E1, with a zero point E2), still in a floating type; v itself is overwritten."""
    codes = v.round_()
    return (codes if zero_point is None else codes.add_(zero_point)).clamp_(qmin, qmax)


def values_(c: Any, scale: Any, zero_point: Any) -> Any:
    """Values of codes on the ONNX grid (E2). A new tensor."""
    return (c - zero_point).mul_(scale)


@dataclass(frozen=True)
class Grid:
    """The trained grid of one tensor (E1).

    Invariants, checked: scale finite and > 0, offset finite, qmin < qmax.
    """

    scale: float
    offset: float
    qmin: int
    qmax: int

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise QuantizationError(
                f"scale is {self.scale}: it must be finite and positive; initialize or train the quantizer again"
            )
        if not np.isfinite(self.offset):
            raise QuantizationError(
                f"offset is {self.offset}: it must be finite; initialize or train the quantizer again"
            )
        if self.qmin >= self.qmax:
            raise QuantizationError(f"grid has the codes {self.qmin} … {self.qmax}: at least two are needed")

    @property
    def zero_point(self) -> float:
        """round(-offset / scale), the integer nearest to the code of real zero; not clipped to the codes."""
        return float(zero_point_of(self.offset, self.scale))

    def codes(self, x: Any) -> Any:
        """Codes of x (E1)."""
        return quantize(x, self.scale, self.offset, self.qmin, self.qmax)

    def values(self, q: Any) -> Any:
        """Values of codes (E1)."""
        return dequantize(q, self.scale, self.offset)

    def unsigned(self) -> Grid:
        """The same values with codes that start at 0: q - qmin, offset + qmin * scale."""
        return Grid(self.scale, self.offset + self.qmin * self.scale, 0, self.qmax - self.qmin)
