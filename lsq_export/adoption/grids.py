"""The grids of other tools' files, as they are written:

QuantizeLinear, DequantizeLinear    of ONNX, or of com.microsoft (4 and 16 bits below operator set 21)
Quant                               of QONNX: s, z and bits are inputs, z may be no integer
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from lsq_export.graph.read import array_of, attribute

CONTRIB = "com.microsoft"
QUANTIZE, DEQUANTIZE, QUANT = "QuantizeLinear", "DequantizeLinear", "Quant"
LIMITS = {
    **{f"UINT{bits}": (0, 2**bits - 1) for bits in (2, 4, 8, 16)},
    **{f"INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (2, 4, 8, 16, 32)},
}


@dataclass(frozen=True)
class FileGrid:
    """One grid: x_hat = scale · (c - zero_point), c in low … high.

    scale, zero_point: float64, [] or [C] along `axis`. low, high: of codes. None for the limits: the file has no type.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int
    low: int
    high: int

    @property
    def per_tensor(self) -> bool:
        return self.scale.size == 1 and self.zero_point.size == 1

    def same_steps(self, other: FileGrid) -> bool:
        """Whether a code means the same value in both."""
        return np.array_equal(self.scale, other.scale) and np.array_equal(self.zero_point, other.zero_point)

    def along(self, parameter: np.ndarray, rank: int) -> np.ndarray:
        """A scale or zero point, shaped to go with a tensor of that rank."""
        if parameter.size == 1 or rank == 0:
            return parameter.reshape(())
        return parameter.reshape([-1 if index == self.axis % rank else 1 for index in range(rank)])


def is_grid(node: ir.Node | None, *op_types: str) -> bool:
    """One of the operators above; without types, any of them."""
    if node is None or node.op_type not in (op_types or (QUANTIZE, DEQUANTIZE, QUANT)):
        return False
    return node.op_type == QUANT or node.domain in ("", CONTRIB)


def grid_of(node: ir.Node) -> FileGrid | None:
    """The grid of a QuantizeLinear or DequantizeLinear; None: computed while the network runs, in blocks, or of floats.

    Errors (QuantizationError): a scale that is no positive number.
    """
    scale, zero = array_of(node.inputs[1]), node.inputs[2] if len(node.inputs) > 2 else None
    if scale is None or attribute(node, "block_size", 0) or (zero is not None and array_of(zero) is None):
        return None
    kind = _type_of(node, zero)
    if kind not in LIMITS or (scale.ndim > 1 and scale.size > 1):
        return None
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        bad = scale[~(np.isfinite(scale) & (scale > 0))].flat[0]
        raise QuantizationError(f"{node.name or node.op_type}: its scale {bad} is no positive number: quantize again")
    array = array_of(zero)
    zeros = np.zeros(1) if array is None else np.asarray(array).astype(np.float64)
    low, high = LIMITS[kind]
    scales = scale.astype(np.float64).reshape(-1)
    return FileGrid(scales, zeros.reshape(-1), int(attribute(node, "axis", 1)), low, high)


def _type_of(node: ir.Node, zero: ir.Value | None) -> str:
    """Of the codes."""
    if zero is not None and zero.dtype is not None:
        return zero.dtype.name
    if zero is not None and zero.const_value is not None:
        return zero.const_value.dtype.name
    if node.op_type == QUANTIZE:
        kind = attribute(node, "output_dtype", 0)
        return ir.DataType(kind).name if kind else "UINT8"
    codes = node.inputs[0]
    stored = codes.const_value.dtype if codes is not None and codes.const_value is not None else None
    dtype = stored or (codes.dtype if codes is not None else None)
    return dtype.name if dtype is not None else "UINT8"
