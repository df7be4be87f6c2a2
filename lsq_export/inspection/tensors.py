"""What is quantized in an ONNX file, and how: one row for every quantized tensor, read from the operators that carry
its scale and zero point.

    for path, rows in inspect_path("out"):            # a file or a bundle
        for row in rows: print(row.name, row.bits, row.scale)

A tensor that operators read with two different grids has two rows; the scale 1 of layers that sum codes
(`code_sums.py`) is no other grid. `codes.py` and `reachable.py` find how many
codes a tensor really uses.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from calib.errors import QuantizationError, one_line
from lsq_export.bundle.directory import WRITTEN, is_bundle, open_bundle
from lsq_export.bundle.layout import MODEL
from lsq_export.bundle.reading import Files

from .code_sums import sums_codes
from .codes import container_bits, used_codes
from .onnx_read import Constants, Operand, attribute, load_model, operands, shapes_of
from .reachable import ReachableCodes

FIRST = {"qoperator": 0, "qdq": 1}  # formats of a bundle that come before others


@dataclass(frozen=True, kw_only=True)
class QuantizedTensor:
    """One quantized tensor.

    kind        "activation" (computed), "weight", "bias" (int32), or "constant": a single stored number, such as an
                offset
    type        the container: UINT8, INT8, INT4, …
    bits        the smallest width that holds the codes it uses; of a weight by its stored codes (per channel, in units
                of the gain), of an activation by the clips and look-ups before it, else the container's
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
    files = sorted(path.glob("*/model.onnx")) or sorted(path.glob("model.onnx"))
    if not files:
        raise QuantizationError(f"{path} is no bundle: it has no <format>/model.onnx; give an ONNX file or {WRITTEN}")
    return files


def inspect_path(path: str | os.PathLike[str]) -> list[tuple[Path, list[QuantizedTensor]]]:
    """(file, its rows) of a file or of each model of a bundle.

    Errors (QuantizationError): missing or damaged files; graphs that contradict themselves.
    """
    return [(file, _rows_of(file, model)) for file, model in _models(Path(path))]


def _models(path: Path) -> Iterator[tuple[Path, onnx.ModelProto]]:
    """Of a bundle, what its manifest lists, the files that most programs read first."""
    if path.is_dir() and is_bundle(path):
        bundle, files = open_bundle(path), Files(path)
        for name, file in sorted(bundle.models.items(), key=lambda model: FIRST.get(model[0], len(FIRST))):
            yield file, files.onnx(f"{name}/{MODEL}")
    else:
        yield from ((file, load_model(file)) for file in model_files(path))


def _rows_of(file: Path, model: onnx.ModelProto) -> list[QuantizedTensor]:
    try:
        return inspect_model(model)
    except QuantizationError:
        raise
    except Exception as error:  # operators with too few inputs, scales of odd shapes, …
        raise QuantizationError(
            f"{file}: its operators contradict each other ({type(error).__name__}: {one_line(error):.160}): export or "
            "copy it again"
        ) from error


def inspect_model(model: onnx.ModelProto) -> list[QuantizedTensor]:
    """Rows in the order in which the graph meets the tensors."""
    constants = Constants(model)
    file = _File(constants, shapes_of(model), ReachableCodes(constants))
    rows: dict[tuple[object, ...], QuantizedTensor] = {}
    for node in model.graph.node:
        file.reachable.visit(node)
        for row in _rows(node, file):
            rows.setdefault((row.name, row.scale, row.zero_point), row)
    return without_units(list(rows.values())) if sums_codes(model.graph, constants) else list(rows.values())


def without_units(rows: list[QuantizedTensor]) -> list[QuantizedTensor]:
    """Where layers sum codes: without the rows of scale 1 beside those of the same codes with their scale."""
    scaled = {(row.name, row.zero_point) for row in rows if row.scale != (1.0,)}
    return [row for row in rows if row.scale != (1.0,) or (row.name, row.zero_point) not in scaled]


@dataclass(frozen=True)
class _File:
    """What is known about the tensors of a file. reachable: as far as its nodes were visited."""

    constants: Constants
    shapes: Mapping[str, tuple[int | str, ...]]
    reachable: ReachableCodes


def _rows(node: onnx.NodeProto, file: _File) -> Iterator[QuantizedTensor]:
    """Rows of the tensors whose grid this operator carries."""
    scales: list[np.ndarray | None] = []  # of the inputs so far
    for operand in operands(node):
        if operand.tensor == operand.zero_point:
            continue  # the code of zero as an operand (E5's spreading)
        scale = file.constants.get(operand.scale)
        if operand.is_bias:
            scale = _bias_scale(scales)
        elif not operand.is_output:
            scales.append(scale)
        container = _container(node, operand, file.constants)
        if container is not None:
            yield _row(operand, container, scale, file)


def _bias_scale(scales: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Input scale times weight scale, the unit of a bias. scales: of the inputs."""
    if len(scales) < 2 or scales[0] is None or scales[1] is None:
        return None
    return np.ravel(scales[0] * scales[1])


def _container(node: onnx.NodeProto, operand: Operand, constants: Constants) -> str | None:
    """The integer type of an operand; None for 8-bit floats, and where QGemm has no output scale and makes floats."""
    if operand.is_output and not operand.scale:
        return None
    container = constants.type(operand.tensor) or constants.type(operand.zero_point) or _output_type(node)
    return container if container is not None and "INT" in container else None


def _row(operand: Operand, container: str, scale: np.ndarray | None, file: _File) -> QuantizedTensor:
    codes, zero_point = file.constants.get(operand.tensor), file.constants.get(operand.zero_point)
    shape = file.shapes.get(operand.tensor) if codes is None else codes.shape
    per_channel = max(np.size(array) for array in (scale, zero_point, 0) if array is not None) > 1
    axis = operand.axis % len(shape) if per_channel and shape else None
    kind = _kind(codes, container)
    levels, bits, gain = None, container_bits(container), None
    if kind == "activation":
        levels, bits = file.reachable.levels_and_bits(operand.tensor, container)
    elif codes is not None and kind != "bias":
        levels, bits, gain = used_codes(codes, zero_point, axis)
    return QuantizedTensor(
        name=operand.tensor,
        kind=kind,
        type=container,
        bits=bits,
        levels=levels,
        gain=gain,
        scale=None if scale is None else tuple(float(x) for x in np.ravel(scale)),
        zero_point=_zero_points(operand.zero_point, zero_point),
        axis=axis,
        shape=shape,
    )


def _kind(codes: np.ndarray | None, container: str) -> str:
    if codes is None:
        return "activation"
    if container == "INT32":
        return "bias"
    return "weight" if codes.size > 1 else "constant"


def _output_type(node: onnx.NodeProto) -> str | None:
    """QuantizeLinear's output type where it has no zero point."""
    if node.op_type != "QuantizeLinear":
        return None
    return str(onnx.TensorProto.DataType.Name(attribute(node, "output_dtype", 0) or onnx.TensorProto.UINT8))


def _zero_points(name: str, array: np.ndarray | None) -> tuple[int, ...] | None:
    if not name:
        return (0,)
    return None if array is None else tuple(int(x) for x in np.ravel(array))
