"""What kind of file it is, by its first bytes; without PyTorch."""

from __future__ import annotations

from pathlib import Path

HEAD = 64  # bytes that tell what a file is


def is_checkpoint(path: Path) -> bool:
    """Whether a file begins as safetensors do, or as what torch.save writes now."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(HEAD)
    return is_safetensors(head) or head[:2] == b"PK"


def is_safetensors(head: bytes) -> bool:
    """head: the first bytes, 9 or more: the length of a header that is JSON."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32
