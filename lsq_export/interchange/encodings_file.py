"""A float ONNX file, with AIMET's encodings of version 2.0.0 beside it: grids with integer zero points.

    FakeQuantize(x; s, β, n, p)  ->  Identity(x), {"y_scale": s, "y_zero_point": round(-β/s), "output_dtype": "uint4"}

β is rounded to a multiple of s, which moves values by up to half a step: exact for networks trained with
offset="integer", and the most that it moves is returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from calib.errors import QuantizationError

from .trained_file import (
    Grid,
    activation_grid,
    biases_of,
    constants_of,
    is_marker,
    ranks_of,
    replace_nodes,
    weight_grid,
)

VERSION = "2.0.0"
WIDTHS = (2, 4, 8)  # that types have


@dataclass(frozen=True)
class Encoded:
    """The float file; what goes into the file of encodings; the most steps that an offset was moved by, and whose."""

    file: onnx.ModelProto
    encodings: dict[str, Any]
    moved: float
    tensor: str


def encodings_file(trained: onnx.ModelProto, bits: Mapping[str, int]) -> Encoded:
    """trained: reference/trained.onnx. bits: {layer: of its weight}.

    Errors (QuantizationError): a grid that no type holds.
    """
    file = onnx.ModelProto()
    file.CopyFrom(trained)
    constants, ranks, biases = constants_of(file), ranks_of(file), {*biases_of(file)}
    nodes: list[onnx.NodeProto] = []
    entries, moved, tensor = list[dict[str, Any]](), 0.0, ""
    for node in file.graph.node:
        if is_marker(node):
            grid = activation_grid(node, constants, ranks)
            entries.append(_entry(grid, node.output[0]))
            steps = float(np.abs(grid.offset / grid.scale - np.rint(grid.offset / grid.scale)).max())
            moved, tensor = max((moved, tensor), (steps, grid.name))
            nodes.append(helper.make_node("Identity", [node.input[0]], [node.output[0]], f"{grid.name}.Identity"))
            continue
        found = weight_grid(node, constants, bits)
        if found is None:
            nodes.append(node)
            continue
        values = constants[node.input[0]].astype(np.float32) * found.scale.astype(np.float32)
        file.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), node.output[0]))
        if node.input[0] not in biases:
            entries.append(_entry(found, node.output[0]))
    replace_nodes(file, nodes)
    return Encoded(file, {"version": VERSION, "encodings": entries}, moved, tensor)


def _entry(grid: Grid, name: str) -> dict[str, Any]:
    """Errors (QuantizationError): a width or zero points that no type has."""
    is_signed, width = grid.low < 0, grid.bits
    low, high = (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if is_signed else (0, 2**width - 1)
    zero = np.rint(-grid.offset.astype(np.float64) / grid.scale).astype(int)
    if width not in WIDTHS or (grid.low, grid.high) != (low, high):
        raise QuantizationError(f"{grid.name} has codes {grid.low} … {grid.high}, for which encodings have no type")
    if zero.min() < low or zero.max() > high:
        raise QuantizationError(
            f"{grid.name} has its zero at the code {int(zero.min() if zero.min() < low else zero.max())}, outside of "
            f"{low} … {high}: encodings cannot say that; write QONNX"
        )
    entry: dict[str, Any] = {"name": name, "output_dtype": f"{'int' if is_signed else 'uint'}{width}"}
    scales = grid.scale.astype(np.float64).reshape(-1)
    if scales.size == 1:
        return {**entry, "y_scale": float(scales[0]), "y_zero_point": int(zero.reshape(-1)[0])}
    axis = next(index for index, size in enumerate(grid.scale.shape) if size > 1)
    zeros = np.broadcast_to(zero, grid.scale.shape).reshape(-1)
    return {**entry, "y_scale": scales.tolist(), "y_zero_point": zeros.tolist(), "axis": axis}
