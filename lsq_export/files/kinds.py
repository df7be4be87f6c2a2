"""What kind of file it is, by its first bytes; without PyTorch."""

from __future__ import annotations

import zipfile
from pathlib import Path

HEAD = 64  # bytes that tell what a file is
ONNX = ".onnx"  # how its name ends


def is_checkpoint(path: Path) -> bool:
    """Whether a file begins as safetensors do, or as what torch.save writes now."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(HEAD)
    return is_safetensors(head) or head[:2] == b"PK"


def holds_tensors(path: Path) -> bool:
    """Whether a file is one of these, and no other ZIP archive, as arrays in a .npz are; a damaged one counts."""
    if not is_checkpoint(path) or not zipfile.is_zipfile(path):
        return is_checkpoint(path)
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("data.pkl") for name in archive.namelist())


def is_ort(path: Path) -> bool:
    """Whether a file begins as those in ONNX Runtime's own format do (.ort), a FlatBuffer with the identifier ORTM."""
    with path.open("rb") as file:
        return file.read(8)[4:] == b"ORTM"


def is_safetensors(head: bytes) -> bool:
    """head: the first bytes, 9 or more: the length of a header that is JSON."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32
