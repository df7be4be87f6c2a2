"""`lsq-export export`: what it prints, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.commands import invoke
from support.exported import Exported


def test_the_answer_ends_with_a_verdict_and_tables_are_extra(exported: Exported, tmp_path: Path) -> None:
    options = ("--data", exported.data, "--out", tmp_path / "out", "--images", 24)
    result = invoke("export", exported.checkpoint, *options)
    assert result.exit_code == 0, result.output
    *_, wrote, verdict = result.stdout.splitlines()
    sizes = {name: entry["bytes"] for name, entry in exported.bundle.manifest["formats"].items()}
    assert wrote.startswith(f"wrote {tmp_path / 'out'} (") and all(f"{name} " in wrote for name in sizes)
    assert verdict.startswith("all promises hold") and len(result.stdout.splitlines()) <= 12
    titles = ("Grids after the fold", "Layers after the fold", "What each fold costs", "Against the trained model")
    assert [result.stdout.count(title) for title in titles] == [0] * 4
    verbose = invoke("export", exported.checkpoint, *options, "--force", "-v")
    assert [verbose.stdout.count(title) for title in titles] == [1] * 4
    assert verbose.stdout.startswith("\n".join(result.stdout.splitlines()[:-2]))  # the answer first


def test_json_is_the_parity_of_the_bundle(exported: Exported, tmp_path: Path) -> None:
    options = ("--data", exported.data, "--out", tmp_path / "out", "--format", "qdq", "--json")
    result = invoke("export", exported.checkpoint, *options)
    assert result.exit_code == 0 and result.stdout == (tmp_path / "out" / "parity.json").read_text()
    assert list(json.loads(result.stdout)["formats"]) == ["qdq"]


def test_a_broken_promise_is_exit_code_1(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle is written all the same, and says so."""
    monkeypatch.setattr("lsq_export.verification.format_run.altered_parts", lambda *rest: ("constant x is missing",))
    result = invoke("export", exported.checkpoint, "--data", exported.data, "--out", tmp_path / "out")
    assert result.exit_code == 1 and "FAILED: qdq: constant x is missing\n" in result.stderr
    assert json.loads((tmp_path / "out" / "parity.json").read_text())["ok"] is False
