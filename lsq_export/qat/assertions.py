"""Whether a value is asked for by nothing but a check: `assert`, or an `if` that only raises or warns.

Such checks are for those who call the model; a graph of it computes the same without them.
"""

from __future__ import annotations

import ast
import linecache
from functools import cache
from types import FrameType

CHECKS = ("_assert", "_assert_async", "_check", "_check_tensor_all", "_check_value")  # functions of torch


def in_check(frame: FrameType) -> bool:
    """Whether the line that the frame is at belongs to the condition of a check."""
    file, line = frame.f_code.co_filename, frame.f_lineno
    return any(first <= line <= last for first, last in _conditions(file))


@cache
def _conditions(file: str) -> tuple[tuple[int, int], ...]:
    """(first, last) line of the conditions of all checks of a file; none where it cannot be read."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return ()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            found.append((node.lineno, node.end_lineno or node.lineno))
        elif isinstance(node, ast.If) and not node.orelse and all(map(_complains, node.body)):
            found.append((node.test.lineno, node.test.end_lineno or node.test.lineno))
        elif isinstance(node, ast.stmt) and _called(node) in CHECKS:
            found.append((node.lineno, node.end_lineno or node.lineno))
    return tuple(found)


def _complains(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Raise) or _called(statement) in ("warn", "warning")


def _called(node: ast.stmt) -> str:
    """What a statement calls, without the module: torch._assert(…)"""
    function = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
    return function.attr if isinstance(function, ast.Attribute) else ""
