"""Files that appear whole or not at all, also when the process is killed on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path` to write to, which takes its place at the end of the block.

    Errors: an OSError of the replacement is raised as it is.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove the temporary files that killed processes left beside this one."""
    for left in path.parent.glob(".*.tmp"):
        name, _, process = left.name[1:].removesuffix(".tmp").rpartition(".")
        if name == path.name and process.isdecimal():
            left.unlink(missing_ok=True)
