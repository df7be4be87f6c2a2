"""Writing one safetensors file: whole or not at all, also when the process is killed or the power fails on the way."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from calib.errors import QuantizationError


def write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str], what: str) -> None:
    """what: the file's kind, for messages. Errors (QuantizationError): a directory, a directory that is missing, a disk that does not take it."""
    if path.is_dir():
        raise QuantizationError(f"{what} {path} is a directory: give a file name that ends in .safetensors")
    if not path.parent.is_dir():
        raise QuantizationError(f"{what} {path}: the directory {path.parent} does not exist; create it first")
    # clone: safetensors refuses tensors that share memory; contiguous: and those that are channels_last
    kept = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            save_file(kept, temporary, metadata)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())  # or the new name may reach the disk before the content
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise QuantizationError(f"{what} {path} cannot be written: {' '.join(str(error).split())}") from error


def sweep(path: Path) -> None:
    """Remove what a killed `write` of this file left behind."""
    for left in path.parent.glob(".*.tmp"):
        name, _, process = left.name[1:].removesuffix(".tmp").rpartition(".")
        if name == path.name and process.isdecimal():
            left.unlink(missing_ok=True)
