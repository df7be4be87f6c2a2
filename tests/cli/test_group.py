"""The group: help for everything, one line and an exit code for every error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import Result

from calib.errors import QuantizationError
from lsq_export import targets
from lsq_export.cli import cli, group
from support.commands import invoke

COMMANDS = list(group.COMMANDS)


def get(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Result:
    """`lsq-export targets`, with a command that raises."""

    @click.command("targets")
    def command() -> None:
        raise error

    monkeypatch.setattr(cli, "get_command", lambda ctx, name: command)
    return invoke("targets")


def one_line(result: Result) -> str:
    """stderr, which must be one line that begins with "error: "."""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr.strip()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    command = get(name)
    assert command.help and command.name == name
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"
            assert parameter.help.rstrip("] ").endswith(".") or "[default" in parameter.help, (
                f"{name} {parameter.opts}: end the help with a period"
            )
    result = invoke(name, "--help")
    assert result.exit_code == 0 and result.stdout.startswith(f"Usage: {cli.name} {name}")


def test_group_help_lists_every_command() -> None:
    shown = invoke("--help").stdout
    assert all(f"  {name} " in shown for name in COMMANDS)
    for line in group.COMMANDS.values():
        assert line.split()[0] in shown


def test_version() -> None:
    assert invoke("--version").stdout.startswith("lsq-export 0.")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["exprot"], "no command 'exprot': use one of demo, train"),
        (["targets", "--colour"], "No such option"),
        (["train", "--data", "digits"], "Missing option"),
        (["train", "--model", "tiny", "--data", "digits", "--out", "x", "--weight-bits", "9"], "--weight-bits"),
        (
            ["train", "--model", "tiny", "--data", "digits", "--out", "x", "--first-last-bits", "1"],
            "use 2 to 8, or none",
        ),
        (["inspect", "nothing-here.onnx"], "nothing-here.onnx does not exist"),
        (["bench", "nothing-here.onnx"], "nothing-here.onnx does not exist"),
    ],
)
def test_bad_input_is_one_line_and_2(arguments: list[str], says: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2 and says in one_line(result) and result.stdout == ""


def test_no_arguments_show_the_help() -> None:
    result = invoke()
    assert result.exit_code == 2 and "Usage:" in result.output


def test_our_error_is_one_line_and_2(monkeypatch: pytest.MonkeyPatch) -> None:
    result = raising(monkeypatch, QuantizationError("layer conv1:\n  s is -1"))
    assert result.exit_code == 2 and one_line(result) == "error: layer conv1: s is -1"


def test_an_unexpected_error_names_itself_and_is_70(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(group.DEBUG_VARIABLE, raising=False)
    result = raising(monkeypatch, ZeroDivisionError("oops"))
    line = one_line(result)
    assert result.exit_code == 70 and "ZeroDivisionError: oops" in line and "LSQ_EXPORT_DEBUG=1" in line


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(group.DEBUG_VARIABLE, "1")
    result = raising(monkeypatch, ZeroDivisionError("oops"))
    assert (
        result.exit_code == 70
        and "Traceback" in result.stderr
        and result.stderr.splitlines()[-1].startswith("error: ZeroDivisionError")
    )


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    result = raising(monkeypatch, KeyboardInterrupt())
    assert result.exit_code == 130 and result.stderr.strip() == "error: interrupted"


def test_a_command_sets_its_own_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """As verify does for a parity failure."""
    assert raising(monkeypatch, click.exceptions.Exit(1)).exit_code == 1


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """`lsq-export … | head -0`: quiet, and neither 0 (done) nor 1 (parity failure)."""
    code = "import sys; sys.argv[1:] = ['targets', '--json']; from lsq_export.cli import main; main()"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_targets() -> None:
    assert "ort-cpu" in invoke("targets").stdout
    rows = json.loads(invoke("targets", "--json").stdout)
    assert [row["name"] for row in rows] == targets.names()
    assert targets.get("ort-cpu").formats == ("qdq", "qoperator")
    with pytest.raises(QuantizationError, match=r"target 'tpu' is unknown: use ort-cpu, onnx-standard, "):
        targets.get("tpu")
