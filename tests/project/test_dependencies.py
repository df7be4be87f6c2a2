"""Every third-party module that the installed packages import is declared in setup.cfg, and nothing else is."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = {"calib", "lsq_export", "models"}
SOURCES = sorted(path for package in OWN for path in (ROOT / package).rglob("*.py"))


# Runtimes that the tests do not install: {module: distribution}, and those that are no import.
RUNTIMES = {
    "ai_edge_litert": "onnx2tf",  # which brings the interpreter
    "cv2": "opencv-python-headless",
    "iree": "iree-base-compiler",
    "tvm": "apache-tvm",
}
NOT_IMPORTED = {"emx-onnx-cgen", "iree-base-runtime"}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def modules() -> dict[str, str]:
    """Top-level module -> distribution, by the lists of installed files: Python 3.10 itself does not read these."""
    found = {}
    for installed in distributions():
        name = installed.metadata["Name"]
        for file in installed.files or ():
            if file.suffix in (".py", ".so"):
                found.setdefault(file.parts[0].split(".")[0], name)
    return found


def requirements(text: str) -> set[str]:
    """Names of distributions in a requirement list of setup.cfg; `%(other)s` is left out."""
    names = (re.match(r"[A-Za-z0-9._-]+", line.strip()) for line in text.splitlines())
    return {normalized(name[0]) for name in names if name}


def declared() -> tuple[set[str], set[str]]:
    """What is always installed, and what the extras for users add to that."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = setup["options.extras_require"]
    users = [text for name, text in extras.items() if name not in ("test", "docs")]
    return requirements(setup["options"]["install_requires"]), requirements("\n".join(users))


def statements(node: ast.AST, deferred: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node under this one, and whether it runs only later: in a function, or never, under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        later = deferred or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        later = later or (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"))
        yield child, later
        yield from statements(child, later)


@cache
def third_party(source: str) -> list[tuple[str, bool]]:
    """Top-level modules that a source imports from other distributions, and whether it does so only later."""
    found = []
    for node, deferred in statements(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        for name in names:
            module = name.split(".")[0]
            if module not in sys.stdlib_module_names and module not in OWN:
                found.append((module, deferred))
    return found


def distribution(module: str) -> str:
    """The distribution that provides a module: PIL is of pillow. An unknown module counts as one of the same name."""
    return normalized(modules().get(module, RUNTIMES.get(module, module)))


def undeclared(source: str, always: set[str], extras: set[str]) -> list[str]:
    """Modules that a source imports without a declaration. Only deferred imports may rely on an extra."""
    return [
        module
        for module, deferred in third_party(source)
        if distribution(module) not in (always | extras if deferred else always)
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_are_declared(path: Path) -> None:
    always, extras = declared()
    if path.parent.name == "adapters":  # programs that run where their runtime is
        always |= extras
    assert undeclared(path.read_text(encoding="utf-8"), always, extras) == []


def test_declarations_are_imported() -> None:
    imported = {distribution(module) for path in SOURCES for module, _ in third_party(path.read_text(encoding="utf-8"))}
    always, extras = declared()
    assert always <= imported
    assert extras - imported == NOT_IMPORTED


def test_extras_repeat_nothing_that_is_always_installed() -> None:
    always, extras = declared()
    assert always & extras == set()


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("import numpy.linalg, os", []),
        ("import yaml", ["yaml"]),
        ("from ml_dtypes import int4", ["ml_dtypes"]),
        ("def f():\n    import sklearn.datasets", []),
        ("import sklearn", ["sklearn"]),
        ("def f():\n    import yaml", ["yaml"]),
        ("class C:\n    from PIL import Image", ["PIL"]),
        ("try:\n    import matplotlib\nexcept ImportError:\n    pass", ["matplotlib"]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import yaml", ["yaml"]),
        ("from . import yaml\nfrom .yaml import load", []),
    ],
)
def test_the_check_notices_what_is_missing(source: str, missing: list[str]) -> None:
    assert undeclared(source, {"numpy"}, {"scikit-learn", "pillow", "matplotlib"}) == missing


def test_the_check_notices_a_declaration_that_was_taken_away() -> None:
    always, extras = declared()
    always -= {"ml-dtypes"}
    found = {
        name
        for path in SOURCES
        if path.parent.name != "adapters"
        for name in undeclared(path.read_text(encoding="utf-8"), always, extras)
    }
    assert found == {"ml_dtypes"}
