"""English text that is on every machine: the docstrings of Python's own modules."""

from __future__ import annotations

import ast
import re
import sysconfig
from functools import cache
from pathlib import Path


@cache
def sentences() -> tuple[str, ...]:
    """Different sentences of 4 to 30 words, in the order of the files' names."""
    found: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        tree = ast.parse(path.read_text(errors="replace"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                for part in re.split(r"(?<=[.:;?!])\s+|\n\s*\n", ast.get_docstring(node) or ""):
                    text = " ".join(part.split())
                    if 4 <= text.count(" ") < 30 and text.isascii() and re.fullmatch(r"[A-Z][\w ,.;:'()\-]+", text):
                        found.setdefault(text)
    return tuple(found)


@cache
def words() -> tuple[str, ...]:
    """Words of these sentences, with their punctuation, in order, repetitions included."""
    return tuple(word for sentence in sentences() for word in sentence.split())
