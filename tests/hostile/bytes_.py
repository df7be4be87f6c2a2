"""Damage that knows nothing of what a file holds."""

from __future__ import annotations

import os
import random
from pathlib import Path


def damage(path: Path, rng: random.Random) -> str:
    """Change the bytes of a file in one of the ways of disks, downloads and editors; its name."""
    content = bytearray(path.read_bytes())
    kind = rng.choice(("flip", "flip", "flip", "cut", "grow", "zero", "empty", "double", "noise"))
    if kind == "flip":
        for _ in range(rng.choice((1, 1, 1, 8))):
            at = rng.randrange(max(1, len(content)))
            if content:
                content[at] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del content[rng.randrange(max(1, len(content))) :]
    elif kind == "grow":
        content += rng.randbytes(rng.randrange(1, 200))
    elif kind == "zero":
        at, count = rng.randrange(max(1, len(content))), rng.randrange(1, 64)
        content[at : at + count] = bytes(len(content[at : at + count]))
    elif kind == "empty":
        content.clear()
    elif kind == "double":
        content *= 2
    else:
        content = bytearray(rng.randbytes(len(content)))
    path.write_bytes(content)
    return f"bytes: {kind}"


def replace(path: Path, rng: random.Random, outside: Path) -> str:
    """Put something else than a regular file there. outside: a file that must not be read."""
    kind = rng.choice(("missing", "link out", "link inside", "device", "pipe", "folder"))
    inside = path.with_name(f"{path.name}.real")
    if kind == "link inside":
        path.rename(inside)
    else:
        path.unlink()
    if kind == "link out":
        path.symlink_to(outside)
    elif kind == "link inside":
        path.symlink_to(inside.name)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    return f"place: {kind}"
