"""Encodings of AIMET and of Qualcomm's tools: a JSON file with a grid for each tensor of a float ONNX file.

Versions 0.6, 1.0 and 2.0. Codes c of the first two stand for (c + offset) · scale with c in 0 … 2^bits - 1, of weights
too (where the offset is -2^(bits - 1)); those of the third for (c - zero point) · scale, as in ONNX.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError, one_line
from lsq_export.graph.read import array_of

from .grids import LIMITS
from .layers import LAYERS, TOO_WIDE, fits_8_bits, output_channels_first, weight_on_grid
from .left import Left
from .markers import WIDEST, marker_on, read_instead

NO_TENSOR = "the file of encodings has a grid for it, the network has no such tensor"
PARTS = "its encoding has scales for other parts than its output channels"
WIDE = "its encoding has more than 8 bits"
BIAS = "biases stay what they are: the fold puts them in its own units"


@dataclass(frozen=True)
class Encoding:
    """Values (c - zero_point) · scale with c in first … last. scale: float64, zero_point: int64, both [] or [C]."""

    scale: np.ndarray
    zero_point: np.ndarray
    first: int
    last: int


def read_encodings(path: str | os.PathLike[str]) -> dict[str, Encoding]:
    """{tensor: its grid}. Errors (QuantizationError): no such file, another version, numbers that are no grid."""
    with in_one_line(path, "of version 0.6, 1.0 or 2.0 that AIMET wrote beside the ONNX file"):
        return dict(_entries(json.loads(Path(path).read_text(encoding="utf-8"))))


@contextmanager
def in_one_line(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Within this block, what is wrong with a file of encodings is a QuantizationError. what: the file to give."""
    try:
        yield
    except OSError as error:
        raise QuantizationError(f"encodings {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise QuantizationError(
            f"encodings {path} cannot be read ({type(error).__name__}: {one_line(error):.120}): give a file {what}"
        ) from error


def _entries(content: Mapping[str, Any]) -> Iterator[tuple[str, Encoding]]:
    version = str(content["version"])
    if version.startswith("2."):
        for entry in content["encodings"]:
            yield str(entry["name"]), _of_onnx(entry)
        return
    if not version.startswith(("0.", "1.")):
        raise ValueError(f"version {version}")
    for kind in ("activation_encodings", "param_encodings"):
        entries = content[kind]
        if isinstance(entries, Mapping):
            entries = [{"name": name, **joined(parts)} for name, parts in entries.items()]
        for entry in entries:
            yield str(entry["name"]), of_offset(entry)


def joined(parts: Any) -> dict[str, Any]:
    """Version 0.6 has an entry for each channel: one of version 1.0, without its name."""
    return {
        "bw": parts[0]["bitwidth"],
        "scale": [part["scale"] for part in parts],
        "offset": [part["offset"] for part in parts],
    }


def of_offset(entry: Mapping[str, Any]) -> Encoding:
    """The grid of an entry of version 1.0. Errors (ValueError, KeyError): numbers that are no grid."""
    offsets = [int(offset) for offset in entry["offset"]]
    scale, zero_point = _scales(entry["name"], entry["scale"]), _zero_points(entry["name"], np.negative(offsets))
    return Encoding(scale, zero_point, 0, 2 ** int(entry["bw"]) - 1)


def _of_onnx(entry: Mapping[str, Any]) -> Encoding:
    zero_point = _zero_points(entry["name"], entry.get("y_zero_point", 0) or 0)
    return Encoding(_scales(entry["name"], entry["y_scale"]), zero_point, *LIMITS[str(entry["output_dtype"]).upper()])


def _scales(name: Any, numbers: Any) -> np.ndarray:
    scale = np.asarray(numbers, np.float64)
    if not (scale.size and np.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError(f"{name}: scales that are no positive numbers")
    return scale.reshape(()) if scale.size == 1 else scale.reshape(-1)


def _zero_points(name: Any, numbers: Any) -> np.ndarray:
    zero = np.asarray(numbers, np.int64).reshape(-1)
    if not zero.size:
        raise ValueError(f"{name}: no zero points")
    return zero[0] if (zero == zero[0]).all() else zero


def place_encodings(graph: ir.Graph, encodings: Mapping[str, Encoding]) -> list[Left]:
    """Put the tensors of a float graph on their grids; returns what stays as it is."""
    left: list[Left] = []
    values = {str(value.name): value for value in (*graph.inputs, *(v for node in graph for v in node.outputs))}
    for name, encoding in encodings.items():
        if name in graph.initializers:
            left += _on_weights(graph, graph.initializers[name], encoding)
        elif name not in values:
            left.append(Left(name, NO_TENSOR))
        elif encoding.last - encoding.first >= WIDEST or encoding.scale.size != 1 or encoding.zero_point.size != 1:
            left.append(Left(name, WIDE))
        else:
            value = values[name]
            readers = [(use.node, use.idx) for use in value.uses()]
            low, high = (int(code - encoding.zero_point) for code in (encoding.first, encoding.last))
            marked = marker_on(graph, value, float(encoding.scale), 0.0, low, high)
            read_instead(graph, value, marked, readers)
    return left


def _on_weights(graph: ir.Graph, value: ir.Value, encoding: Encoding) -> Iterator[Left]:
    array = array_of(value)
    for node, index in [(use.node, use.idx) for use in value.uses()]:
        if node.op_type not in LAYERS or index != 1 or array is None:
            yield Left(str(value.name), BIAS)
            continue
        axes = output_channels_first(node, array.ndim)
        if encoding.last - encoding.first >= WIDEST or isinstance(axes, str):
            yield Left(str(value.name), WIDE if not isinstance(axes, str) else axes)
            continue
        weight = array.transpose(axes)
        if {encoding.scale.size, encoding.zero_point.size} - {1, len(weight)}:
            yield Left(str(value.name), PARTS)
            continue
        by_channel = [-1, *[1] * (weight.ndim - 1)]
        scale, zero = (
            part.reshape(by_channel) if part.ndim else part
            for part in (encoding.scale.astype(np.float32), encoding.zero_point)
        )
        codes = np.rint(weight / scale).clip(encoding.first - zero, encoding.last - zero).astype(np.int64)
        if fits_8_bits(codes):
            weight_on_grid(graph, node, codes, scale)
        else:
            yield Left(str(value.name), TOO_WIDE)
