"""What is quantized in an ONNX file, and how: one row for every quantized tensor, read from the operators that carry
its scale and zero point.

    for path, rows in inspect_path("out"):            # a file or a bundle
        for row in rows: print(row.name, row.bits, row.scale)

A tensor that operators read with two different grids has two rows. `codes.py` finds how many codes a tensor really
uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from calib.errors import QuantizationError

from .codes import ReachableCodes, used_codes
from .onnx_read import Constants, attribute, load_model, operands, shapes_of


@dataclass(frozen=True)
class QuantizedTensor:
    """One quantized tensor.

    kind        "activation" (computed), "weight", "bias" (int32), or "constant": a single stored number, such as an offset
    type        the container: UINT8, INT8, INT4, …
    bits        the smallest width that holds the codes it uses; of a weight by its stored codes (per channel, in units of the gain), of an activation
                by the clips and look-ups before it, else the container's
    levels      number of different codes that it uses
    gain        the greatest common divisor of a weight's codes (a weight gain, E6); None for others
    scale       one number, or one per channel; None where the operator has none (MatMulInteger) or computes it
    zero_point  likewise
    axis        of the channels; None: per tensor
    shape       None where unknown; a dynamic dimension is its name
    """

    name: str
    kind: str
    type: str
    bits: int
    levels: int | None
    gain: int | None
    scale: tuple[float, ...] | None
    zero_point: tuple[int, ...] | None
    axis: int | None
    shape: tuple[int | str, ...] | None


def model_files(path: str | os.PathLike[str]) -> list[Path]:
    """The file itself, or the models of a bundle: <format>/model.onnx, sorted by format."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*/model.onnx")) or sorted(path.glob("model.onnx"))
    if not found:
        raise QuantizationError(
            f"{path} is no bundle: it has no <format>/model.onnx; give an ONNX file or a directory that lsq-export "
            "export wrote"
        )
    return found


def inspect_path(path: str | os.PathLike[str]) -> list[tuple[Path, list[QuantizedTensor]]]:
    """(file, its rows) of a file or of each model of a bundle. Errors (QuantizationError): missing or damaged files."""
    return [(file, inspect_model(load_model(file))) for file in model_files(path)]


def inspect_model(model: onnx.ModelProto) -> list[QuantizedTensor]:
    """Rows in the order in which the graph meets the tensors."""
    constants, shapes = Constants(model), shapes_of(model)
    reachable = ReachableCodes(constants)
    rows: dict[tuple[object, ...], QuantizedTensor] = {}
    for node in model.graph.node:
        reachable.visit(node)
        for row in _rows(node, constants, shapes, reachable):
            rows.setdefault((row.name, row.scale, row.zero_point), row)
    return list(rows.values())


def _rows(
    node: onnx.NodeProto, constants: Constants, shapes: dict[str, tuple[int | str, ...]], reachable: ReachableCodes
) -> Iterator[QuantizedTensor]:
    """Rows of the tensors whose grid this operator carries."""
    scales: list[np.ndarray | None] = []
    for operand in operands(node):
        if operand.tensor == operand.zero_point:
            continue  # the code of zero as an operand (E5's spreading)
        codes, scale, zero_point = (
            constants.get(operand.tensor),
            constants.get(operand.scale),
            constants.get(operand.zero_point),
        )
        if operand.is_bias:  # in units of input scale times weight scale
            scale = (
                None if len(scales) < 2 or scales[0] is None or scales[1] is None else np.ravel(scales[0] * scales[1])
            )
        elif not operand.is_output:
            scales.append(scale)
        container = constants.type(operand.tensor) or constants.type(operand.zero_point) or _output_type(node)
        if container is None or "INT" not in container or (operand.is_output and not operand.scale):
            continue  # 8-bit floats; QGemm without an output scale makes a float tensor
        per_channel = (
            max(np.size(scale) if scale is not None else 1, np.size(zero_point) if zero_point is not None else 1) > 1
        )
        shape = codes.shape if codes is not None else shapes.get(operand.tensor)
        axis = operand.axis % len(shape) if per_channel and shape else None
        levels, bits, gain = None, 32 if container == "INT32" else reachable.container_bits(container), None
        kind = (
            "activation"
            if codes is None
            else "bias"
            if container == "INT32"
            else "weight"
            if codes.size > 1
            else "constant"
        )
        if codes is not None and kind != "bias":
            levels, bits, gain = used_codes(codes, zero_point, axis)
        elif kind == "activation":
            levels, bits = reachable.levels_and_bits(operand.tensor, container)
        yield QuantizedTensor(
            operand.tensor,
            kind,
            container,
            bits,
            levels,
            gain,
            _numbers(scale, float),
            _zero_points(operand.zero_point, zero_point),
            axis,
            shape,
        )


def _output_type(node: onnx.NodeProto) -> str | None:
    """QuantizeLinear's output type where it has no zero point."""
    if node.op_type != "QuantizeLinear":
        return None
    return onnx.TensorProto.DataType.Name(attribute(node, "output_dtype", 0) or onnx.TensorProto.UINT8)


def _numbers(array: np.ndarray | None, kind: type) -> tuple[float, ...] | None:
    return None if array is None else tuple(kind(x) for x in np.ravel(array))


def _zero_points(name: str, array: np.ndarray | None) -> tuple[int, ...] | None:
    if not name:
        return (0,)
    return None if array is None else tuple(int(x) for x in np.ravel(array))
