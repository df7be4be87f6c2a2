"""safetensors files with a digest of all that is in them, and a header that is the same for the same content.

    path.write_bytes(b"".join(sealed(tensors, metadata)))
    tensors, metadata = read(path)                 # ValueError where a byte has changed since

The digest stands in the header, so it is that of the file with zeros in its place. It finds damage, not forgery.
Commands look at metadata before they import torch, so nothing here does.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open

from .digest import BLOCK

if TYPE_CHECKING:
    import torch

DIGEST = "lsq_export_sha256"  # the key in the metadata
_LENGTH, _ALIGNED = 8, 8  # bytes: the length of the header is written in that many, and is a multiple of that
_METADATA = "__metadata__"


def sealed(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> tuple[bytes, memoryview]:
    """The bytes of a file: its header, and the rest, which may be large.

    safetensors orders tensors by itself, and metadata by chance: here both are sorted.
    """
    from safetensors.torch import save

    raw = save(tensors, {**metadata, DIGEST: _zeros()})
    start = _LENGTH + int.from_bytes(raw[:_LENGTH], "little")
    header = json.loads(raw[_LENGTH:start])
    ordered = {_METADATA: dict(sorted(header.pop(_METADATA).items())), **dict(sorted(header.items()))}
    text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNED)
    head = len(text).to_bytes(_LENGTH, "little") + text
    digest = hashlib.sha256(head)
    content = memoryview(raw)[start:]
    digest.update(content)
    return head.replace(_entry(_zeros()), _entry(digest.hexdigest()), 1), content


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file; with a digest in it, it must be right.

    Errors: a SafetensorError or OSError is raised as it is; ValueError: something has changed since the digest was
    made.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    _check(path, metadata)
    return tensors, metadata


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata alone; the digest is that of the whole file here, too. Errors: as `read`."""
    with safe_open(path, framework="np") as file:
        metadata = file.metadata() or {}
    _check(path, metadata)
    return metadata


def _check(path: Path, metadata: dict[str, str]) -> None:
    if DIGEST in metadata and metadata[DIGEST] != _digest(path, metadata[DIGEST]):
        raise ValueError("its content is not what its digest is of")


def _digest(path: Path, noted: str) -> str:
    """What the digest of the file must be. noted: what it is."""
    with path.open("rb") as file:
        length = file.read(_LENGTH)
        header = file.read(int.from_bytes(length, "little"))
        digest = hashlib.sha256(length + header.replace(_entry(noted), _entry(_zeros()), 1))
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _entry(digest: str) -> bytes:
    """As it stands in the header. No name and no text can look like it: quotes in these are escaped."""
    return f'"{DIGEST}":"{digest}"'.encode()


def _zeros() -> str:
    return "0" * hashlib.sha256().digest_size * 2
