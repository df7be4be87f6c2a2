"""--threads is on every command that computes, and means the same in each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch

from lsq_export.cli import cli
from lsq_export.cli.group import COMMANDS
from lsq_export.cli.thread_options import threads_option
from support.commands import TINY_DIGITS, invoke

pytestmark = pytest.mark.usefixtures("one_thread")
COMPUTE_NOTHING = {"inspect", "interchange", "kernels", "lint", "page", "replay", "report", "sign", "targets"}  # here


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in COMPUTE_NOTHING])
def test_every_command_that_computes_has_it(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    (option,) = (p for p in command.params if "--threads" in p.opts)
    assert isinstance(option, click.Option) and option.help
    assert option.help.startswith("Compute with this many threads, in torch and in ONNX Runtime.")
    shown = " ".join(invoke(name, "--help").output.split())
    assert "--threads" in shown and "default: " in shown.rsplit("--threads", 1)[1].split("--", 1)[0]
    result = invoke(name, "--threads", "0")
    assert result.exit_code == 2


def test_without_words_the_default_is_a_number() -> None:
    @click.command()
    @threads_option(2)
    def command(threads: int) -> None:
        click.echo(str(threads))

    assert invoke(command=command).output == "2\n"


def train(directory: Path, *more: object) -> Path:
    out = directory / "t.safetensors"
    result = invoke("train", *TINY_DIGITS, "--float-epochs", 1, "--epochs", 1, "--device", "cpu", "--out", out, *more)
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.slow
def test_training_uses_and_keeps_the_number(tmp_path: Path) -> None:
    from lsq_export.training import checkpoint

    out = train(tmp_path, "--threads", 2)
    assert checkpoint.load(out).extra["threads"] == 2 and torch.get_num_threads() == 1


def test_lines_of_a_piped_training(tmp_path: Path) -> None:
    """Phases with numbers, epochs with what they gave; all of it on stderr."""
    out = tmp_path / "t.safetensors"
    result = invoke("train", *TINY_DIGITS, "--float-epochs", 2, "--epochs", 1, "--device", "cpu", "--out", out)
    lines = [line for line in result.stderr.splitlines() if "epoch" in line]
    assert [line.split("  ")[:2] for line in lines] == [
        ["1 of 2: float training, 1 thread", "epoch 1/2"],
        ["1 of 2: float training, 1 thread", "epoch 2/2"],
        ["2 of 2: low-bit training", "epoch 1/1"],
    ]
    assert all("loss" in line and "test accuracy" in line for line in lines) and "epoch 1" not in result.stdout


def test_the_console_script_bounds_spinning_before_torch_is_there() -> None:
    code = """
import json, os, sys
from lsq_export.cli import group
group.cli.main = lambda **keywords: print(json.dumps(["torch" in sys.modules, os.environ.get("GOMP_SPINCOUNT")]))
group.main()
"""
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    torch_is_there, spins = json.loads(done.stdout)
    assert not torch_is_there and int(spins) > 0
