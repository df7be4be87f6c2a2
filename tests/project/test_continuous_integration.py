"""The workflow, the hooks and the instructions name make targets, Python versions and tools as they are."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def workflow() -> dict[Any, Any]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))


def steps(document: dict[Any, Any]) -> Iterator[dict[str, Any]]:
    for job in document["jobs"].values():
        yield from job["steps"]


def called_targets(text: str) -> set[str]:
    """Targets of the `make` commands in a script, or in the code of a Markdown text."""
    commands = re.findall(r"(?m)(?:^|[`;&|] *)\s*make((?: +[A-Z_]+=\"[^\"]*\"| +[\w./=-]+)*)", text)
    words = (word for command in commands for word in re.sub(r'[A-Z_]+="[^"]*"', "", command).split())
    return {word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)}


def made_targets() -> set[str]:
    return set(re.findall(r"(?m)^([a-z][a-z-]*):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8")))


def pins() -> dict[str, str]:
    """Distribution, normalized -> version of constraints.txt, for Python 3.11 or newer."""
    lines = (
        line.split("#")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if '< "3.11"' not in line
    )
    pairs = (line.split(";")[0].strip().split("==") for line in lines if line)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def setup() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read(ROOT / "setup.cfg", encoding="utf-8")
    return parsed


def hooks(repository: str) -> dict[str, Any]:
    document = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (found,) = [entry for entry in document["repos"] if entry["repo"] == f"https://github.com/{repository}"]
    return found


# ---- the workflow


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_complete(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", True, "permissions", "jobs"} <= document.keys()  # YAML 1.1 reads `on` as true
    for job in document["jobs"].values():
        assert job["runs-on"] and job["timeout-minutes"] and job["steps"]
    for step in steps(document):
        assert ("run" in step) != ("uses" in step)
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "actions/checkout@v4"))


def test_workflow_calls_targets_that_exist() -> None:
    called = set().union(*(called_targets(step["run"]) for step in steps(workflow()) if "run" in step))
    assert called <= made_targets()
    assert {"lint", "venv", "demo", "docs", "dist", "test-slow", "test-isa"} <= called


def test_workflow_tests_the_versions_that_setup_cfg_names() -> None:
    matrix = workflow()["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["versions"] == ["oldest", "pinned"]
    named = re.findall(r"(?m)^Programming Language :: Python :: (3\.\d+)$", setup()["metadata"]["classifiers"])
    assert matrix["python"] == named
    assert setup()["options"]["python_requires"] == f">={named[0]}"


def test_workflow_installs_both_ends_of_the_versions() -> None:
    conditions = {step["if"]: step["run"] for step in workflow()["jobs"]["tests"]["steps"] if "if" in step}
    assert conditions["matrix.versions == 'pinned'"].strip() == "make venv"
    assert "--resolution lowest-direct" in conditions["matrix.versions == 'oldest'"]


# ---- what people are told to run


@pytest.mark.parametrize("name", [".ci/run", "README.md", "CONTRIBUTING.md"])
def test_instructions_call_targets_that_exist(name: str) -> None:
    called = called_targets((ROOT / name).read_text(encoding="utf-8"))
    assert called
    assert called <= made_targets()


def test_help_names_the_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    head = makefile.split("Each makes")[0].replace("# make ", "").replace("#", "").replace(".", "")
    assert {name.strip() for name in head.split("|")} == made_targets() - {"help", "venv"}


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("make nothing", {"nothing"}),
        ("cd x && make a-b PYTEST_ARGS=\"-k 'not c'\" d", {"a-b", "d"}),
        ("Run `make one` or `make two BITS=3 OUT=demo-w3`.", {"one", "two"}),
        ("    make three        # and a remark", {"three"}),
        ("These make no sense.", set()),
    ],
)
def test_calls_are_found(text: str, targets: set[str]) -> None:
    assert called_targets(text) == targets


# ---- hooks before a commit


@pytest.mark.parametrize(
    ("repository", "tool"), [("astral-sh/ruff-pre-commit", "ruff"), ("pre-commit/mirrors-mypy", "mypy")]
)
def test_hooks_run_the_pinned_tools(repository: str, tool: str) -> None:
    assert hooks(repository)["rev"] == f"v{pins()[tool]}"


def test_the_type_checker_of_the_hook_sees_the_pinned_packages() -> None:
    (hook,) = hooks("pre-commit/mirrors-mypy")["hooks"]
    wanted = [entry for entry in hook["additional_dependencies"] if not entry.startswith("--")]
    seen = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (entry.split("==") for entry in wanted)}
    assert seen == {name: pins()[name] for name in seen}
    required = re.findall(r"(?m)^([\w.-]+) >=", setup()["options"]["install_requires"])
    assert {name.lower().replace("_", "-") for name in required} - {"onnxscript"} <= seen.keys()
