"""The command line: `main` is the console script, `cli` the click group. One command per file; see group.py."""

from __future__ import annotations

from .group import cli, main

__all__ = ["cli", "main"]
