"""The sources of the packages as modules, and what a test of the architecture reads from them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOPS = ("calib", "lsq_export", "models")


@dataclass(frozen=True, kw_only=True)
class Module:
    """One source file. name: as it is imported; package: the package it lies in, or is."""

    name: str
    package: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @property
    def is_package(self) -> bool:
        return self.name == self.package

    @property
    def lines(self) -> int:
        return len(self.source.splitlines())


def module_of(file: str | Path, source: str) -> Module:
    """file: relative to the repository. models/x.py is lsq_export.models.x."""
    parts = list(Path(file).with_suffix("").parts)
    if parts[0] == "models":
        parts.insert(0, "lsq_export")
    package = ".".join(parts[:-1])
    name = package if parts[-1] == "__init__" else ".".join(parts)
    return Module(name=name, package=package, source=source)


def read_modules() -> list[Module]:
    """All modules of the packages."""
    files = [file for top in TOPS for file in sorted((ROOT / top).rglob("*.py"))]
    return [module_of(file.relative_to(ROOT), file.read_text(encoding="utf-8")) for file in files]


def imports(module: Module, names: frozenset[str]) -> Iterator[str]:
    """Full names of all that a file imports, anywhere in it.

    `from a import b` gives a.b where that is one of the modules `names`, else a.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.package.split(".")
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{source}.{alias.name}" if f"{source}.{alias.name}" in names else source


def distant_imports(module: Module) -> list[str]:
    """Relative imports of anything but a module in the same directory: `from ..x import y`, `from .x.y import z`."""
    found = [node for node in ast.walk(module.tree) if isinstance(node, ast.ImportFrom) and node.level]
    return [ast.unparse(node) for node in found if node.level > 1 or "." in (node.module or "")]


def functions(module: Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """(full name, definition) of all functions and methods, and of functions inside them."""

    def inside(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{prefix}.{child.name}", child
            named = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            yield from inside(child, f"{prefix}.{child.name}" if named else prefix)

    return inside(module.tree, module.name)


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many a caller can give, *args and **kwargs left out; self and cls do not count."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    bound = bool(positional) and positional[0].arg in ("self", "cls")
    return len(positional) + len(arguments.kwonlyargs) - bound


def is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether click makes a command of it."""
    return any(ast.unparse(decorator).startswith("click.command(") for decorator in function.decorator_list)


def prints(module: Module) -> list[int]:
    """Lines that call print()."""
    calls = [node for node in ast.walk(module.tree) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def offered_functions(package: Module, modules: Iterable[Module]) -> set[str]:
    """The functions among the names in `__all__` of a package, wherever they are defined."""
    lists = [node.value for node in package.tree.body if isinstance(node, ast.Assign) and "__all__" in _targets(node)]
    defined = {node.name for module in modules for node in module.tree.body if isinstance(node, ast.FunctionDef)}
    return {name for value in lists for name in ast.literal_eval(value)} & defined


def _targets(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


def cycle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """The nodes of one cycle, the first one repeated at the end; empty where there is none."""
    done: set[str] = set()

    def visit(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node not in done:
            for following in graph.get(node, ()):
                if circle := visit(following, [*way, node]):
                    return circle
            done.add(node)
        return []

    return next((circle for node in graph if (circle := visit(node, []))), [])
