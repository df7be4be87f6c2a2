"""Writing one safetensors file: whole or not at all, also when the process is killed or the power fails on the way.

The same content is the same bytes. `sealed.read` notices when one of them has changed.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError

from calib.errors import QuantizationError, one_line

from .atomic import replacing
from .sealed import sealed


def write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str], what: str) -> None:
    """Write the tensors and the metadata. what: the kind of file, for messages.

    Errors (QuantizationError): the path is a directory, its directory is missing, the disk does not take the file.
    """
    if path.is_dir():
        raise QuantizationError(f"{what} {path} is a directory: give a file name that ends in .safetensors")
    if not path.parent.is_dir():
        raise QuantizationError(f"{what} {path}: the directory {path.parent} does not exist; create it first")
    # Copies that are contiguous: safetensors refuses tensors that share memory, and those that are channels_last.
    layout = torch.contiguous_format
    copies = {name: tensor.detach().cpu().clone(memory_format=layout) for name, tensor in tensors.items()}
    try:
        with replacing(path) as temporary:
            save_file(copies, temporary, metadata)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise QuantizationError(f"{what} {path} cannot be written: {reason}") from error


def save_file(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    """As the function of that name in safetensors, but sealed, and into the file that is there.

    Theirs makes a temporary file of its own, which a kill leaves behind, and which nobody else may read.
    """
    with path.open("wb") as file:
        file.writelines(sealed(tensors, metadata))
