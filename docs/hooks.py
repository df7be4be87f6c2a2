"""The generated parts of the documentation (mkdocs hooks).

A line `<!-- generate: NAME -->` in a page becomes the Markdown that the function NAME of this module returns
(GENERATORS lists them).
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
DIRECTIVE = re.compile(r"^<!-- generate: (\w+) -->$", re.MULTILINE)
RESULTS = ROOT / "models" / "RESULTS.md"
PASSES = ROOT / "lsq_export" / "rewrite"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. Cells are Markdown; a | in them is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def module_head(path: Path) -> str:
    """The docstring of a module, without importing it."""
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _heads() -> list[tuple[Path, str]]:
    """(file, docstring) of every rewrite that says what it turns into what."""
    found = [(path, module_head(path)) for path in sorted(PASSES.rglob("*.py"))]
    return [(path, head) for path, head in found if "=>" in head]


def pass_table() -> str:
    """One row for each rewrite: the file, and the first sentence of its docstring.

    The order is that of the files; `lsq_export.rewrite.fold.PASSES` is the place to take names and order from.
    """
    rows = []
    for path, head in _heads():
        sentence = " ".join(head.split("\n\n")[0].split())
        rows.append((f"[`{path.stem}`](#pass-{path.stem})", re.sub(r"^[a-z_ ]+: ", "", sentence)))
    return table(("rewrite", "what it does"), rows)


def pass_heads() -> str:
    """The whole docstring of each rewrite: what it turns into what, and why that is exact."""
    parts = []
    for path, head in _heads():
        parts.append(f"### {path.stem} {{#pass-{path.stem}}}\n\n`{path.relative_to(ROOT)}`\n\n```text\n{head}\n```\n")
    return "\n".join(parts)


def operator_table() -> str:
    """Every ONNX operator that a captured graph may hold after normalization, and what becomes of it.

    `lsq_export.graph.operators.OPERATORS` is the place to take the rows from, once it exists.
    """
    normalize = importlib.import_module("lsq_export.rewrite.normalizing.normalize")
    islands = importlib.import_module("lsq_export.graph.islands")
    kinds = (
        (normalize.LINEAR, "linear: integer sums of products, requantized once (E9)"),
        (normalize.CODE_PRESERVING, "moves codes, so that any grid goes through unchanged"),
        (normalize.CLAMPS, "clamp: becomes a clamp of codes (E10)"),
        (normalize.ARITHMETIC, "integer operator between two grids"),
        (("BatchNormalization",), "goes into the layer before it (E8)"),
        (islands.ISLANDS, "stays float between two grids: an island"),
    )
    return table(
        ("ONNX operator", "what becomes of it"),
        [(f"`{name}`", kind) for names, kind in kinds for name in sorted(names)],
    )


def _api(package: str, skip: Sequence[str] = ()) -> str:
    """One mkdocstrings section for each public name of a package."""
    module = importlib.import_module(package)
    parts = []
    for name in (n for n in module.__all__ if n not in skip):
        item = getattr(module, name)
        options = f"    options:\n      heading: {package}.{name}\n      toc_label: {name}\n"
        parts.append(f"::: {item.__module__}.{item.__qualname__}\n{options}")
    return "\n".join(parts)


def lsq_export_api() -> str:
    """The public names of lsq_export."""
    return _api("lsq_export", skip=["QuantizationError"])


def calib_api() -> str:
    """The public names of calib."""
    return _api("calib")


def results() -> str:
    """models/RESULTS.md, which `python -m models.paper_tables --render` writes, without its title."""
    text = RESULTS.read_text(encoding="utf-8")
    return text[text.index("# The tables") :].split("\n", 1)[1]


GENERATORS: dict[str, Callable[[], str]] = {
    f.__name__: f for f in (pass_table, pass_heads, operator_table, lsq_export_api, calib_api, results)
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs: put the generated parts into a page. An unknown name is an error."""
    return DIRECTIVE.sub(lambda match: GENERATORS[match[1]](), markdown)


def on_files(files: Files, *, config: Any) -> Files:
    """mkdocs: the plots of models/RESULTS.md lie outside of docs/; its links expect them in results/."""
    for plot in sorted((ROOT / "models" / "results").glob("*.svg")):
        files.append(File.generated(config, f"results/{plot.name}", abs_src_path=str(plot)))
    return files
