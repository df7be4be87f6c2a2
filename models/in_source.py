"""Which networks a module of the user's has, read from its source: nothing in it is imported or executed.

hint("mynet")     -> " (did you mean mynet:Net?)", where mynet.py lies in the current directory; else ""
"""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

LARGEST = 2**20  # bytes of a source that is read
NAMED = 3  # networks that a hint names
_BASES = {"torch.nn.Module", "torch.nn.Sequential"}


def hint(name: str) -> str:
    """For a name of a module, or of its file, without the factory in it; "" where there is no such file."""
    module = ".".join(part for part in name.removesuffix(".py").split("/") if part not in ("", "."))
    if not all(part.isidentifier() for part in module.split(".")):
        return ""
    place = Path(*module.split("."))
    file = next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)
    if file is None:
        return ""
    found = networks(file)
    if not found:
        return f" ({file} is here: give {module}:factory, the class or function in it that makes the network)"
    *others, last = [f"{module}:{network}" for network in found[-NAMED:]]
    return f" (did you mean {', '.join(others)}{' or ' if others else ''}{last}?)"


def networks(file: Path) -> list[str]:
    """Names of the classes of torch.nn.Module, as far as the source says so; those that no other one of them uses."""
    try:
        if file.stat().st_size > LARGEST:
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about strings in it
            tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    known, found = _imported(tree), dict[str, ast.ClassDef]()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            bases = {_full(base, known) for base in node.bases}
            if bases & {*_BASES, *found}:
                found[node.name] = node
    used = {name for name, node in found.items() for part in found.values() if part is not node and _uses(part, name)}
    return [name for name in found if name not in used] or list(found)


def _imported(tree: ast.Module) -> dict[str, str]:
    """{name here: what it stands for}, of the imports of a module."""
    known = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                known[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and not node.level:
            known.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return known


def _full(base: ast.expr, known: dict[str, str]) -> str:
    """nn.Module -> torch.nn.Module."""
    first, *rest = ast.unparse(base).split(".")
    return ".".join((known.get(first, first), *rest))


def _uses(node: ast.AST, name: str) -> bool:
    return any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node))
