"""Sizes of inputs that a file leaves open, or does not have at all, become those of the data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from calib.errors import QuantizationError
from calib.samples import Input, tensors_of


def input_shape(model: ir.Model) -> Any:
    """Sizes without the batch, None where the file leaves them open; {name: sizes} of several inputs.

    An input of which the file has no shape has None in place of its sizes.
    """
    shapes = {str(value.name): _sizes(value.shape) for value in model.graph.inputs}
    return next(iter(shapes.values())) if len(shapes) == 1 else shapes


def _sizes(shape: ir.Shape | None) -> tuple[int | None, ...] | None:
    if shape is None:
        return None
    return tuple(size if isinstance(size, int) and size > 0 else None for size in list(shape)[1:])


def is_open(shape: Any) -> bool:
    """Whether a file leaves sizes open; shape: what `input_shape` gives."""
    shapes = shape.values() if isinstance(shape, Mapping) else [shape]
    return any(sizes is None or None in sizes for sizes in shapes)


def fix_sizes(graph: ir.Graph, x: Input, path: str | os.PathLike[str]) -> None:
    """All sizes of the inputs but the batch become those of x, [N, …].

    Errors (QuantizationError): the file has another size, or another number of axes.
    """
    for value, tensor in zip(graph.inputs, tensors_of(x), strict=True):
        known = list(value.shape) if value.shape is not None else [None] * tensor.dim()
        found = [None, *tensor.shape[1:]]
        if len(known) != len(found) or any(
            isinstance(a, int) and a > 0 and b is not None and a != b for a, b in zip(known, found, strict=True)
        ):
            raise QuantizationError(
                f"{path}: the input {value.name} has the shape {[str(size) for size in known]}, the data have "
                f"{list(tensor.shape)}: prepare them as the network wants them"
            )
        batch = known[0] if isinstance(known[0], int) and known[0] > 0 else ir.SymbolicDim("batch")
        value.shape = ir.Shape([batch, *tensor.shape[1:]])
    for node in graph:
        for value in node.outputs:
            value.shape = None  # as the file had it: inferred anew
