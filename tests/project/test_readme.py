"""The README is short; its Python runs as it stands, on a smaller network for fewer epochs, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from lsq_export.cli.group import COMMANDS
from support.commands import invoke

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found
    return found.group(1)


def test_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= 120 and max(map(len, lines)) <= 120


def test_python_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    code = block("python")
    for was, smaller in (
        ('"resnet18"', '"tiny"'),
        ('load("digits")', 'load("digits", image_size=16)'),
        ("(1, 3, 32, 32)", "(1, 3, 16, 16)"),
        ("pretrain(net, digits)", "pretrain(net, digits, epochs=2)"),
        ("finetune(model, digits)", "finetune(model, digits, epochs=1)"),
    ):
        assert was in code
        code = code.replace(was, smaller)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    exec(compile(code, "README.md", "exec"), {})
    ok, agreement, mismatch = capsys.readouterr().out.split()
    assert ok == "True" and float(agreement) >= 0.9 and mismatch == "0"


def test_commands_and_options_exist() -> None:
    lines = block("sh").replace("\\\n", " ").strip().splitlines()
    for line in lines:
        _, command, *rest = line.split()
        assert command in COMMANDS
        text = invoke(command, "--help").output
        assert all(word in text for word in rest if word.startswith("--")), line
    assert {"train", "export", "verify", "inspect", "bench"} <= {line.split()[1] for line in lines}
