"""The generated parts of the documentation (mkdocs hooks).

A line `<!-- generate: NAME -->` in a page becomes the Markdown that the function NAME of this module returns
(GENERATORS lists them). Where a line `<!-- generated: NAME -->` follows, what stands between is that Markdown already,
for those who read the files: `python docs/hooks.py` writes it anew.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent
DIRECTIVE = re.compile(r"^<!-- generate: (\w+) -->$(?P<there>\n(?:.*\n)*?<!-- generated: \1 -->$)?", re.MULTILINE)
RESULTS = ROOT / "models" / "RESULTS.md"
PASSES = ROOT / "lsq_export" / "rewrite"
EXAMPLES = ROOT / "examples"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. Cells are Markdown; a | in them is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def module_head(path: Path) -> str:
    """The docstring of a module, without importing it."""
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _sentence(head: str) -> str:
    """The first sentence of a module's head, without its name."""
    return re.sub(r"^[a-z_ ]+: ", "", " ".join(head.split("\n\n")[0].split()))


def _passes() -> list[Any]:
    """The passes of all folds, in order."""
    return list(importlib.import_module("lsq_export.rewrite.fold").STRIDED)


def _file_of(step: Any) -> Path:
    return Path(str(sys.modules[step.run.__module__].__file__))


def pass_table() -> str:
    """One row for each pass of the folds, in order, as `lsq_export.rewrite.fold.FOLDS` has them."""
    folds = importlib.import_module("lsq_export.rewrite.fold").FOLDS
    rows = [
        (
            f"[`{step.name}`](#pass-{_file_of(step).stem})",
            _sentence(step.rule),
            ", ".join(name for name, passes in folds.items() if step in passes),
            f"{step.keeps.value}: {step.because}" if step.because else step.keeps.value,
            "; ".join(condition.text for condition in step.ensures),
        )
        for step in _passes()
    ]
    return table(("pass", "what it does", "folds", "what it keeps", "what holds after it"), rows)


def _lowerings() -> list[Path]:
    return [path for path in sorted((PASSES / "lowering").glob("*.py")) if "=>" in module_head(path)]


def lowering_table() -> str:
    """One row for each rewrite of the folded graph into the operators of a format."""
    rows = [(f"[`{path.stem}`](#pass-{path.stem})", _sentence(module_head(path))) for path in _lowerings()]
    return table(("rewrite", "what it does"), rows)


def pass_heads() -> str:
    """The whole head of each file: what it turns into what, and why that is exact."""
    first = [_file_of(step) for step in _passes()]
    parts = [path for path in sorted(PASSES.rglob("*.py")) if "=>" in module_head(path)]
    ordered = [*dict.fromkeys(first), *(path for path in parts if path not in first)]
    sections = (
        f"### {path.stem} {{#pass-{path.stem}}}\n\n`{path.relative_to(ROOT)}`\n\n```text\n{module_head(path)}\n```\n"
        for path in ordered
    )
    return "\n".join(sections)


def operator_table() -> str:
    """The table of operators, `lsq_export.graph.operators.OPERATORS`."""
    operators = importlib.import_module("lsq_export.graph.operators").OPERATORS.values()
    rows = []
    for row in operators:
        notes = [row.note] if row.note else []
        notes += [f"operator set {row.opset}"] if row.opset > 17 else []
        form = f"`{row.integer.domain + '.' if row.integer.domain else ''}{row.integer.op_type}`" if row.integer else ""
        rows.append((f"`{row.name}`", row.kind.value, form, "; ".join(notes)))
    return table(("ONNX operator", "what becomes of it", "on codes", "notes"), rows)


def _api(package: str, skip: Sequence[str] = ()) -> str:
    """One mkdocstrings section for each public name of a package."""
    module = importlib.import_module(package)
    parts = []
    for name in (n for n in module.__all__ if n not in skip):
        item = getattr(module, name)
        options = f"    options:\n      heading: {package}.{name}\n      toc_label: {name}\n"
        parts.append(f"::: {item.__module__}.{item.__qualname__}\n{options}")
    return "\n".join(parts)


def target_rules() -> str:
    """A section for each target: what it is, and its rules with their sources."""
    targets = importlib.import_module("lsq_export.targets")
    sections = []
    for target in targets.everything():
        rows = [
            (
                f"`{rule.predicate}`{' (note)' if rule.is_note else ''}",
                _settings(rule.settings),
                rule.instead,
                rule.source,
            )
            for rule in target.rules
        ]
        head = f"### {target.name} {{#{target.name}}}\n\n{target.description}. Rules of: {target.versions}."
        sections.append(f"{head}\n\n{table(('rule', 'settings', 'instead', 'source'), rows)}\n")
    return "\n".join(sections)


def _settings(settings: dict[str, Any]) -> str:
    return "; ".join(f"{key} {_value(value)}" for key, value in settings.items())


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, (tuple, list)) else str(value)


def rule_table() -> str:
    """One row for each predicate that targets name in their rules."""
    importlib.import_module("lsq_export.linting.lint_file")  # registers them
    known = importlib.import_module("lsq_export.linting.predicates").PREDICATES
    targets = importlib.import_module("lsq_export.targets").everything()
    return table(
        ("rule", "what it checks", "targets"),
        [
            (
                f"`{name}`",
                " ".join((predicate.__doc__ or "").split()),
                ", ".join(t.name for t in targets if name in {rule.predicate for rule in t.rules}),
            )
            for name, predicate in sorted(known.items())
        ],
    )


def commands() -> str:
    """One row for each command."""
    known = importlib.import_module("lsq_export.cli.group").COMMANDS
    return table(("command", "what it does"), [(f"`{name}`", text) for name, text in known.items()])


def commands_with_options() -> str:
    """On the website: the same, and all options (mkdocs-click)."""
    settings = {"module": "lsq_export.cli.group", "command": "cli", "prog_name": "lsq-export", "depth": 2}
    settings |= {"style": "plain", "list_subcommands": "true"}
    return "\n".join(
        [commands(), "", "::: mkdocs-click", *(f"    :{name}: {value}" for name, value in settings.items())]
    )


def lsq_export_api() -> str:
    """The public names of lsq_export."""
    return _api("lsq_export", skip=["QuantizationError", "QuantizationWarning"])


def training_api() -> str:
    """The public names of lsq_export.training."""
    return _api("lsq_export.training")


def calib_api() -> str:
    """The public names of calib."""
    return _api("calib")


def results() -> str:
    """models/RESULTS.md, which `python -m models.paper_tables --render` writes, without its title."""
    text = RESULTS.read_text(encoding="utf-8")
    return text[text.index("# The tables") :].split("\n", 1)[1]


GENERATORS: dict[str, Callable[[], str]] = {
    f.__name__: f
    for f in (
        *(pass_table, lowering_table, pass_heads, operator_table, rule_table, target_rules),
        *(lsq_export_api, training_api, calib_api, results, commands),
    )
}
ON_THE_WEBSITE = {**GENERATORS, "commands": commands_with_options}


def filled(markdown: str) -> str:
    """A page whose blocks between two lines of a name have what is generated now."""

    def block(match: re.Match[str]) -> str:
        name = match[1]
        if match["there"] is None:
            return match[0]
        return f"<!-- generate: {name} -->\n\n{GENERATORS[name]().rstrip()}\n\n<!-- generated: {name} -->"

    return DIRECTIVE.sub(block, markdown)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs: put the generated parts into a page. An unknown name is an error. Examples lie beside the pages there."""
    generated = DIRECTIVE.sub(lambda match: ON_THE_WEBSITE[match[1]](), markdown)
    return generated.replace("](../examples/", "](examples/")


def on_files(files: Files, *, config: Any) -> Files:
    """mkdocs: examples, and the plots that models/RESULTS.md expects in results/, lie outside of docs/."""
    from mkdocs.structure.files import File

    for example in (*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")):
        files.append(File.generated(config, f"examples/{example.name}", abs_src_path=str(example)))
    for plot in sorted((ROOT / "models" / "results").glob("*.svg")):
        files.append(File.generated(config, f"results/{plot.name}", abs_src_path=str(plot)))
    return files


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for page in sorted(Path(__file__).parent.rglob("*.md")):
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
