"""The arrows of the design, read from the sources: calib <- lsq_export <- lsq_export.cli, models beside them; the
paper's tables on top of all.

Only the command line and the report print.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for package in ("calib", "lsq_export", "models") for path in (ROOT / package).rglob("*.py"))
ONNX = {"onnx", "onnxruntime", "onnxscript", "onnx_ir"}


def layer(path: Path) -> str:
    """calib, models, paper (in models), cli, report or lsq_export.

    __main__ belongs to the command line, the commands in models/ to it, too.
    """
    parts = path.relative_to(ROOT).parts
    if parts[0] == "models" and parts[1] in ("paper", "paper_tables.py", "first_grids.py"):
        return "paper" if parts[1] == "paper" else "cli"
    if parts[0] != "lsq_export":
        return parts[0]
    return (
        "cli"
        if parts[1] in ("cli", "__main__.py")
        else "report"
        if parts[1].removesuffix(".py") == "report"
        else "lsq_export"
    )


def imports(source: str, path: Path) -> Iterator[str]:
    """Full names of all modules that a file imports, anywhere in it;

    `from a import b` gives a.b, for b may be a module.
    """
    package = list(path.relative_to(ROOT).parts[:-1])
    if package[0] == "models":
        package.insert(0, "lsq_export")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def forbidden(source: str, path: Path) -> list[str]:
    """Imports that this file must not have."""
    here = layer(path)
    found = []
    for name in imports(source, path):
        top = name.split(".")[0]
        upward = name.startswith("lsq_export.models.paper") and path.relative_to(ROOT).parts[0] != "models"
        bad = {
            "calib": top in {"lsq_export", "models", "click", "rich"} | ONNX,
            "models": top in {"models", "click", "rich"} | ONNX
            or (
                top == "lsq_export"
                and (not name.startswith("lsq_export.models") or name.startswith("lsq_export.models.paper"))
            )
            or (top == "calib" and not name.startswith("calib.errors.")),
            "lsq_export": top in {"click", "models"} or name.startswith("lsq_export.cli"),
            "report": top in {"click", "models"} or name.startswith("lsq_export.cli"),
            "paper": top in {"models", "click", "rich"} | ONNX or name.startswith("lsq_export.cli"),
            "cli": top == "models",
        }[here]
        if bad or upward:
            found.append(name)
    return found


def prints(source: str) -> list[int]:
    """Lines that call print()."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert forbidden(source, path) == []
    if layer(path) not in ("cli", "report"):
        assert prints(source) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("calib/x.py", "import onnx"),
        ("calib/x.py", "from lsq_export.prepare import prepare"),
        ("calib/x.py", "def f():\n    import onnxruntime as ort"),
        ("lsq_export/x.py", "import click"),
        ("lsq_export/x.py", "from .cli import main"),
        ("lsq_export/rewrite/x.py", "from ..cli.output import console"),
        ("lsq_export/x.py", "from models import build"),
        ("models/x.py", "from calib.grid import Grid"),
        ("models/x.py", "import calib"),
        ("models/x.py", "from lsq_export import prepare"),
        ("models/x.py", "from ..prepare import prepare"),
        ("models/x.py", "from .paper.plan import plan"),
        ("models/paper/x.py", "import click"),
        ("models/paper/x.py", "from lsq_export.cli.output import console"),
        ("lsq_export/x.py", "from .models.paper.plan import plan"),
        ("lsq_export/cli/x.py", "from lsq_export.models.paper_tables import command"),
    ],
)
def test_a_wrong_arrow_is_found(file: str, source: str) -> None:
    assert forbidden(source, ROOT / file)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("calib/x.py", "import torch\nfrom .errors import QuantizationError"),
        ("lsq_export/x.py", "import onnx\nfrom calib.grid import Grid\nfrom .models import build"),
        ("lsq_export/cli/x.py", "import click\nfrom ..prepare import prepare"),
        ("models/paper/x.py", "import calib\nfrom lsq_export.training.job import Job\nfrom .plan import plan"),
        (
            "models/paper_tables.py",
            "import click\nfrom lsq_export.cli.output import console\nfrom .paper.plan import plan",
        ),
        ("models/x.py", "from calib.errors import QuantizationError\nfrom .tiny import Tiny\nfrom torch import nn"),
    ],
)
def test_a_right_arrow_is_none(file: str, source: str) -> None:
    assert forbidden(source, ROOT / file) == []


def test_a_print_is_found() -> None:
    assert prints("def f():\n    print(1)\nconsole.print(2)") == [2]


def test_the_layers_are_there() -> None:
    assert {layer(path) for path in SOURCES} >= {"calib", "lsq_export", "cli", "models", "paper"}
