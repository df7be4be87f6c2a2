"""Writing one safetensors file: whole or not at all, also when the process is killed or the power fails on the way."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from calib.errors import QuantizationError

from .atomic import replacing


def write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str], what: str) -> None:
    """what: the file's kind, for messages.

    Errors (QuantizationError): a directory, a directory that is missing, a disk that does not take it.
    """
    if path.is_dir():
        raise QuantizationError(f"{what} {path} is a directory: give a file name that ends in .safetensors")
    if not path.parent.is_dir():
        raise QuantizationError(f"{what} {path}: the directory {path.parent} does not exist; create it first")
    # clone: safetensors refuses tensors that share memory; contiguous: and those that are channels_last
    kept = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    try:
        with replacing(path) as temporary:
            save_file(kept, temporary, metadata)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())  # or the new name may reach the disk before the content
    except (OSError, SafetensorError) as error:
        raise QuantizationError(f"{what} {path} cannot be written: {' '.join(str(error).split())}") from error
