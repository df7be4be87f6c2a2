"""What a constant tensor holds on its grid: the codes of a weight, through all that stands between it and its layer.

DequantizeLinear(codes)                          as the file stores them
DequantizeLinear(Clip(QuantizeLinear(W)))        computed from float weights, in float32, as ONNX Runtime does it
Quant(W)                                         likewise
Transpose, Reshape, Identity, … of these         moved
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lsq_export.graph.read import array_of, attribute, producer_of

from .grids import DEQUANTIZE, QUANT, QUANTIZE, is_grid
from .grids import grid_of as grid_in_file
from .qonnx import quant_of

FLOAT_LIMIT = 128  # codes on either side of zero that are looked for in float weights
NEAR = 1e-4  # steps: float32 holds 128 · s to 128 · 2^-24 of them


@dataclass(frozen=True)
class Stored:
    """codes: int64, zero is 0. scale: float32, of the rank of codes, with size 1 along all axes but one at most."""

    codes: np.ndarray
    scale: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """float32, as DequantizeLinear makes them."""
        return np.asarray(self.codes.astype(np.float32) * self.scale, np.float32)

    def transposed(self, axes: tuple[int, ...]) -> Stored:
        return Stored(self.codes.transpose(axes), self.scale.transpose(axes))

    def reshaped(self, shape: tuple[int, ...]) -> Stored | None:
        """None: its scales belong to an axis that is not kept."""
        codes = self.codes.reshape(shape)
        if self.scale.size == 1:
            return Stored(codes, self.scale.reshape([1] * codes.ndim))
        if self.scale.shape[0] == self.scale.size and codes.shape[:1] == self.codes.shape[:1]:
            return Stored(codes, self.scale.reshape([-1, *[1] * (codes.ndim - 1)]))
        return None


def stored_in(value: ir.Value | None) -> Stored | None:
    """What a constant value that a grid makes holds; None for anything else."""
    node = producer_of(value)
    if node is None:
        return None
    if node.domain in ("", "ai.onnx") and node.op_type in ("Identity", "Cast"):
        return stored_in(node.inputs[0])
    if node.op_type == "Transpose" and (inner := stored_in(node.inputs[0])) is not None:
        axes = attribute(node, "perm", tuple(reversed(range(inner.codes.ndim))))
        return inner.transposed(tuple(axes))
    if node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        inner, shape = stored_in(node.inputs[0]), node.outputs[0].shape
        known = shape is not None and all(isinstance(size, int) for size in shape)
        return inner.reshaped(tuple(shape.numpy())) if inner is not None and shape is not None and known else None
    if is_grid(node, QUANT):
        return _of_quant(node)
    return _of_pair(node) if is_grid(node, DEQUANTIZE) else None


def _of_pair(node: ir.Node) -> Stored | None:
    codes, grid = array_of(node.inputs[0]), grid_in_file(node)
    if grid is None:
        return None
    if codes is None:
        codes = codes_of(node.inputs[0])
        if codes is None:
            return None
    zero, scale = (grid.along(part, codes.ndim) for part in (grid.zero_point, grid.scale))
    return Stored((codes.astype(np.int64) - zero.astype(np.int64)), _ranked(scale, codes.ndim))


def codes_of(value: ir.Value | None) -> np.ndarray | None:
    """int64 codes that a QuantizeLinear makes of a constant, with a Clip behind it."""
    node, low, high = producer_of(value), None, None
    if node is not None and node.op_type == "Clip":
        low, high = ([*(array_of(v) for v in node.inputs[1:3]), None, None])[:2]
        node = producer_of(node.inputs[0])
    array = array_of(node.inputs[0]) if node is not None and is_grid(node, QUANTIZE) else None
    grid = grid_in_file(node) if node is not None and array is not None else None
    if array is None or grid is None:
        return None
    scale, zero = (grid.along(part, array.ndim).astype(np.float32) for part in (grid.scale, grid.zero_point))
    codes = (np.rint(array.astype(np.float32) / scale) + zero).clip(grid.low, grid.high).astype(np.int64)
    return np.asarray(codes.clip(None if low is None else int(low), None if high is None else int(high)))


def _of_quant(node: ir.Node) -> Stored | None:
    array, quant = array_of(node.inputs[0]), quant_of(node)
    if array is None or quant is None or (quant.zero_point != np.rint(quant.zero_point)).any():
        return None
    scale = np.broadcast_to(quant.scale.astype(np.float32), quant.scale.shape)
    scale = scale.reshape([1] * (array.ndim - scale.ndim) + list(scale.shape))
    if max(scale.shape, default=1) != scale.size:
        return None
    codes = np.rint(array.astype(np.float32) / scale + quant.zero_point).clip(quant.low, quant.high)
    return Stored((codes - quant.zero_point).astype(np.int64), scale)


def _ranked(scale: np.ndarray, rank: int) -> np.ndarray:
    return np.asarray(scale, np.float32).reshape([1] * rank if scale.size == 1 else scale.shape)


def found_in_floats(weight: np.ndarray) -> Stored | None:
    """Codes and scales [C_out] of float weights that lie on a grid of at most 8 bits; None: they lie on none.

    Some tools write what their fake quantizers made, without the scale: the largest weight of a channel is then n steps
    for the least n of which all of its weights are whole steps.
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    codes, scale = np.zeros(rows.shape, np.int64), np.ones(len(rows))
    for index, row in enumerate(rows):
        largest = np.abs(row).max(initial=0)
        if largest == 0:
            continue
        steps = np.arange(1, FLOAT_LIMIT + 1)
        places = row[None, :] / largest * steps[:, None]
        fits = (np.abs(places - np.rint(places)) <= NEAR).all(axis=1) & (places.max(axis=1) < FLOAT_LIMIT)
        if not fits.any():
            return None
        first = int(fits.argmax())
        codes[index], scale[index] = np.rint(places[first]), largest / steps[first]
    by_channel = [-1, *[1] * (weight.ndim - 1)]
    return Stored(codes.reshape(weight.shape), scale.astype(np.float32).reshape(by_channel))
