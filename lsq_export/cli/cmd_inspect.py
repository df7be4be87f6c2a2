"""lsq-export inspect: every quantized tensor of ONNX files, every learned grid of checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calib.words import counted

from .arguments import ANY_FILE
from .output import print_entries, print_json, say

if TYPE_CHECKING:
    from lsq_export.inspection.checkpoint import LearnedGrid
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


GRID_COLUMNS: Mapping[str, Callable[[LearnedGrid], object]] = {
    "place": lambda row: row.place,
    "role": lambda row: row.role,
    "library": lambda row: row.library,
    "stored": lambda row: row.stored,
    ">bits": lambda row: "?" if row.bits is None else row.bits,
    ">scale": lambda row: _span(row.scale),
    ">zero point": lambda row: _span(row.zero_point),
    ">low": lambda row: "" if row.low is None else _span(row.low),
    ">high": lambda row: "" if row.high is None else _span(row.high),
}


@click.command("inspect")
@click.argument("path", metavar="FILE|BUNDLE|CHECKPOINT", type=ANY_FILE)
@click.option("--bits", type=click.IntRange(2, 32), help="Width of a checkpoint's grids where it does not say it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the scale of every channel.")
def command(path: Path, bits: int | None, as_json: bool) -> None:
    """List every quantized tensor of an ONNX file, or of each model of a bundle; or the learned grids of a checkpoint.

    ONNX: bits: the smallest width that holds the codes which the tensor uses, whatever its type. levels: how many codes
    it uses. gain: what all codes of a weight are multiples of. Scales and zero points per channel are shown as smallest
    … largest (number).

    Checkpoints (torch.save, safetensors): grids of torch.ao, torchao, Brevitas, NNCF, AIMET, ModelOpt, Quark, MCT, and
    of LSQ and LSQ+ code that names its tensors so. No code of a file is run. "?": the file does not say it; libraries
    that keep ranges need --bits for a scale.
    """
    from lsq_export.files.kinds import is_checkpoint

    if is_checkpoint(path):
        _print_grids(path, bits, as_json)
        return
    if bits is not None:
        raise click.UsageError("--bits is for checkpoints: what tensors of ONNX files use shows in them")
    from lsq_export.inspection.tensors import inspect_path

    files = inspect_path(path)
    if as_json:
        print_json([{"file": str(file), "tensors": [_plain(asdict(row)) for row in rows]} for file, rows in files])
        return
    for file, rows in files:
        if not rows:
            say(
                f"{file}: no tensor in it is quantized: it is a float network; "
                "lsq-export calibrate makes integers of it"
            )
            continue
        print_entries(f"{file}: {counted(len(rows), 'quantized tensor')}", COLUMNS, rows)


def _print_grids(path: Path, bits: int | None, as_json: bool) -> None:
    from lsq_export.inspection.checkpoint import learned_grids

    grids = learned_grids(path, bits)
    if any(grid.bits is None for grid in grids):
        widths = _own_widths(path)
        grids = tuple(replace(grid, bits=grid.bits or widths.get(_quantizer(grid))) for grid in grids)
    if as_json:
        print_json([{"file": str(path), "grids": [_plain(asdict(row)) for row in grids]}])
        return
    print_entries(f"{path}: {counted(len(grids), 'learned grid')}", GRID_COLUMNS, grids)
    if any(grid.bits is None for grid in grids):
        say("?: the file does not say it; --bits N says how many bits such grids have")


def _own_widths(path: Path) -> dict[str, int]:
    """{quantizer: its bits} of a checkpoint of ours, whose configuration says them; {} where that needs your code."""
    from calib.errors import QuantizationError
    from lsq_export.qat.prepare_model import quantizers
    from lsq_export.training.checkpoint import restore
    from lsq_export.training.checkpoint_header import check_trained

    try:
        check_trained(path)
        return {name: quantizer.bits for name, quantizer in quantizers(restore(path)[0]).items()}
    except QuantizationError:  # another tool's, or a network that nobody named
        return {}


def _quantizer(grid: LearnedGrid) -> str:
    """As our models call it."""
    return grid.place if grid.role == "activation" else f"{grid.place}.{grid.role}"


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
