"""The documentation says what is so: the tutorial runs, commands and options exist, cited equations are there."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from lsq_export.cli.group import COMMANDS, cli
from lsq_export.qat.config import QATConfig

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r'```(\w*)(?: title="([^"]+)")?\n(.*?)```', re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(r"^(?:\S.* -m lsq_export|lsq-export) ([a-z-]+)(.*)$", re.MULTILINE)
EQUATION = re.compile(r"\bE([1-9][0-9]?)\b")
SMALLER = (("epochs=20", "epochs=2"), ("epochs=10", "epochs=1"))
FEW_EPOCHS = ("--epochs", "1", "--float-epochs", "1")


def options_of(command: str) -> set[str]:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    return {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help"
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_their_options_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = "\n".join([*(block for _, _, block in FENCE.findall(text)), *INLINE.findall(FENCE.sub("", text))])
    for command, rest in COMMAND.findall(code):
        assert command in COMMANDS, command
        wanted = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", rest.split("#")[0]))
        assert wanted <= options_of(command), f"lsq-export {command}{rest}"


def test_every_cited_equation_is_derived() -> None:
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    derived = set(re.findall(r"^## E(\d+): .* \{#e\d+\}$", design, re.MULTILINE))
    assert derived == {str(number) for number in range(1, 11)}
    for number in derived:
        assert design.count(f"(E{number})\n") == 1, f"E{number} stands once, with its number"
    for folder in ("calib", "lsq_export", "models", "tests"):
        for source in (ROOT / folder).rglob("*.py"):
            assert set(EQUATION.findall(source.read_text(encoding="utf-8"))) <= derived, source


def test_anchors_of_the_design_are_those_of_its_numbers() -> None:
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    for number, anchor in re.findall(r"^## E(\d+): .* \{#e(\d+)\}$", design, re.MULTILINE):
        assert number == anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    """In a checkout; `make docs` checks the website."""
    links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert links or page != PAGES[0]
    for link in links:
        assert link.startswith("https:") or (page.parent / link).is_file(), link


def test_anchors_of_the_readme_are_headings() -> None:
    """On a page that is read in the repository an anchor is the heading itself, in small letters."""
    for file, anchor in re.findall(r"\]\(([^)\s#]+)#([^)\s]+)\)", PAGES[0].read_text(encoding="utf-8")):
        headings = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in [heading.lower().replace(" ", "-") for heading in headings], anchor


def test_the_defaults_of_the_configuration_are_its_own() -> None:
    """Its fields hold them, once; the table of training.md and the options of train say the same."""
    defaults = {name: str(value) for name, value in QATConfig().to_dict().items()}
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    table = page[page.index("{#config}") : page.index("{#initialize}")]
    rows = re.findall(r"^\| (`[^|]+) \| (`--[^|]+) \|.*\| `?([^|`]+)`? \|$", table, re.MULTILINE)
    train = cli.get_command(click.Context(cli), "train")
    assert train is not None
    shown = {option: str(found.default) for found in train.params for option in found.opts}
    told = {}
    for names, options, default in rows:
        if names == "`layers`":
            told["layers"] = default
            continue  # two options, none of which has a default
        for name, option in zip(INLINE.findall(names), INLINE.findall(options), strict=True):
            told[name] = default
            assert shown[option] == default, option
    assert told == defaults


def run(*command: str, cwd: Path) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{cwd}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_tutorial_runs(tmp_path: Path) -> None:
    """As it stands, for fewer epochs."""
    files: dict[str, str] = {}
    commands: list[str] = []
    file = ""
    for language, title, code in FENCE.findall((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")):
        if language == "python":
            file = title or file
            files[file] = files.get(file, "") + code
        elif language == "sh":
            commands += code.strip().splitlines()
    assert set(files) == {"net.py", "make_data.py", "export_net.py"}
    for was, smaller in SMALLER:
        assert was in files["export_net.py"]
        files["export_net.py"] = files["export_net.py"].replace(was, smaller)
    for name, code in files.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    run(sys.executable, "make_data.py", cwd=tmp_path)
    assert "all promises hold" in run(sys.executable, "export_net.py", cwd=tmp_path)
    assert len(commands) == 7
    for line in commands:
        program, *arguments = line.split()
        assert program == "lsq-export"
        few = FEW_EPOCHS if arguments[0] == "train" and "--epochs" not in arguments else ()
        shown = run(sys.executable, "-m", "lsq_export", *arguments, *few, cwd=tmp_path)
        assert arguments[0] not in ("export", "verify") or "all promises hold" in shown


def test_what_is_generated_in_place_is_current() -> None:
    """Tables of targets, operators and commands, for who reads the files: python docs/hooks.py writes them anew."""
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None and spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    in_place = set()
    for page in PAGES[1:]:
        text = page.read_text(encoding="utf-8")
        assert hooks.filled(text) == text, page
        in_place |= {match[1] for match in hooks.DIRECTIVE.finditer(text) if match["there"]}
        assert ":::" not in text, page
    assert {"rule_table", "target_rules", "operator_table", "commands"} <= in_place
    shown = hooks.on_page_markdown((ROOT / "docs" / "cli.md").read_text(encoding="utf-8"))
    assert "| `calibrate` |" in shown and "::: mkdocs-click\n    :module: lsq_export.cli.group" in shown
    assert "<!-- generate" not in shown
