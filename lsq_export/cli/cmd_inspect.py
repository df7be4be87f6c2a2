"""lsq-export inspect: every quantized tensor of ONNX files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .arguments import ONNX_PATH
from .output import print_entries, print_json

if TYPE_CHECKING:
    from lsq_export.inspection.tensors import QuantizedTensor

COLUMNS: Mapping[str, Callable[[QuantizedTensor], object]] = {
    "tensor": lambda row: row.name,
    "kind": lambda row: row.kind,
    "type": lambda row: row.type,
    ">bits": lambda row: row.bits,
    ">levels": lambda row: row.levels,
    ">gain": lambda row: "" if row.gain in (None, 1) else row.gain,
    ">scale": lambda row: _span(row.scale),
    ">zero point": lambda row: _span(row.zero_point),
    ">axis": lambda row: row.axis,
    "shape": lambda row: "?" if row.shape is None else " × ".join(map(str, row.shape)) or "scalar",
}


@click.command("inspect")
@click.argument("path", metavar="FILE|BUNDLE", type=ONNX_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the scale of every channel.")
def command(path: Path, as_json: bool) -> None:
    """List every quantized tensor of an ONNX file, or of each model of a bundle.

    bits: the smallest width that holds the codes which the tensor uses, whatever its type. levels: how many codes it
    uses. gain: what all codes of a weight are multiples of. Scales and zero points per channel are shown as smallest …
    largest (number).
    """
    from lsq_export.inspection.tensors import inspect_path

    files = inspect_path(path)
    if as_json:
        print_json([{"file": str(file), "tensors": [_plain(asdict(row)) for row in rows]} for file, rows in files])
        return
    for file, rows in files:
        print_entries(f"{file}: {len(rows)} quantized tensors", COLUMNS, rows)


def _plain(value: Any) -> Any:
    """For JSON: null for NaN and infinity; protobuf gives names that are no Unicode as bytes."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _span(values: tuple[float, ...] | None) -> str:
    """Smallest … largest (number)."""
    if values is None:
        return "?"
    low, high = min(values), max(values)
    if len(values) == 1:
        return f"{low:.6g}"
    return f"{low:.6g} ({len(values)})" if low == high else f"{low:.6g} … {high:.6g} ({len(values)})"
