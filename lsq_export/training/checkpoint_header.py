"""What stands in front of the tensors of a checkpoint, read without torch: commands look at it first."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from calib.errors import QuantizationError, one_line
from lsq_export.files import sealed

FORMAT = "2"  # raise it when the meaning of the metadata changes
WITHOUT_DIGEST = "1"  # the format before it, which is read, too
FORMAT_KEY = "lsq_export"
FIELDS = ("model", "config", "input_shape", "preprocessing", "extra")


def metadata_of(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty where it has none.

    Errors (QuantizationError): missing, damaged, a pickle, no safetensors file.
    """
    if not path.is_file():
        raise QuantizationError(f"checkpoint {path} {_missing(path)}")
    try:
        return sealed.read_metadata(path)
    except (SafetensorError, OSError, ValueError) as error:
        with path.open("rb") as raw:
            start = raw.read(9)
        # a safetensors file begins with a length, whose bytes may be these by chance, and goes on with "{"
        if (start[:2] == b"PK" or start[:1] == b"\x80") and start[8:] != b"{":
            raise QuantizationError(
                f"checkpoint {path} is a pickle (.pt, .pth), which can run code: lsq-export train --model NAME "
                "--float-checkpoint reads the weights in it"
            ) from error
        raise QuantizationError(
            f"checkpoint {path} is damaged or no safetensors file ({one_line(error)}): copy or train it again"
        ) from error


def fields_of(path: str | os.PathLike[str], metadata: dict[str, str]) -> dict[str, Any]:
    """{field of `Checkpoint`: its value}, from metadata that `save` wrote.

    Errors (QuantizationError): metadata of another program or version, or damaged.
    """
    if FORMAT_KEY not in metadata:
        raise QuantizationError(
            f"checkpoint {path} has no lsq-export metadata, so its model is unknown: lsq-export train --model NAME "
            "--float-checkpoint takes it"
        )
    if metadata[FORMAT_KEY] not in (FORMAT, WITHOUT_DIGEST):
        raise QuantizationError(
            f"checkpoint {path} has the format {metadata[FORMAT_KEY]!r}, not {FORMAT!r}: use the lsq-export that "
            "wrote it"
        )
    if metadata[FORMAT_KEY] == FORMAT and sealed.DIGEST not in metadata:
        raise QuantizationError(f"checkpoint {path} is damaged (it lacks its digest): copy or train it again")
    try:
        return {field: json.loads(metadata[field]) for field in FIELDS}
    except (KeyError, ValueError, RecursionError) as error:
        raise QuantizationError(
            f"checkpoint {path} has damaged metadata ({one_line(error)}): write it again"
        ) from error


def check_trained(path: Path) -> dict[str, Any]:
    """The fields of a checkpoint with grids. Errors (QuantizationError): as above, and one of a float model."""
    fields = fields_of(path, metadata_of(path))
    if fields["config"] is None:
        raise QuantizationError(
            f"checkpoint {path} is of a float model, which has no grids: give one that train --out wrote"
        )
    return fields


def _missing(path: Path) -> str:
    if path.is_dir():
        if (path / "manifest.json").exists():
            takes = "verify, inspect, bench and report take that"
            return f"is not a file but a bundle: {takes}; for another target make it again, with --target"
        return "is not a file: name the checkpoint in it"
    advice = "check the path, or train one with lsq-export train"
    return f"is not a file: {advice}" if path.exists() else f"does not exist: {advice}"
