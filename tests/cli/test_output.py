"""lsq_export/cli/output.py: tables, JSON, and files to write."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click
import pytest

from calib.errors import QuantizationError
from lsq_export.cli.output import (
    HTML,
    JSON,
    STDOUT,
    WIDTH,
    OutputFile,
    check_replaceable,
    console,
    json_option,
    print_entries,
    print_json,
    print_table,
    write_json_file,
)
from support.commands import invoke
from support.exported import Exported


def test_a_table_has_a_line_for_each_row_and_aligns_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Things", ("name", ">count"), [("a [b]", 3), ("long name", None), ("c", 12345)])
    title, header, *rows = (line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert title == "Things" and header == "name       count"
    assert rows == ["a [b]          3", "long name", "c          12345", ""]


def test_long_names_are_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    name = "x" * (WIDTH - 10)
    print_table("Things", ("name", "kind"), [(name, "weight")])
    assert f"{name}  weight" in capsys.readouterr().out


def test_a_table_of_entries(capsys: pytest.CaptureFixture[str]) -> None:
    print_entries("Words", {"word": str, ">letters": len, ">none": lambda word: None}, ["a", "bcd"])
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:4]] == [
        ["word", "letters", "none"],
        ["a", "1"],
        ["bcd", "3"],
    ]


def test_a_console_writes_where_stdout_is_now(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("out")
    console(stderr=True).print("err")
    assert capsys.readouterr() == ("out\n", "err\n")


def test_json_alone_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"β": [1, None]})
    out = capsys.readouterr().out
    assert json.loads(out) == {"β": [1, None]} and "β" in out
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json(math.nan)


@click.command()
@json_option
@click.option("--out", type=OutputFile(), help="Write there.")
def command(json_file: Path | None, out: Path | None) -> None:
    """Write what was asked for."""
    write_json_file(json_file, {"out": str(out)})


def test_the_json_option_writes_a_file_or_stdout(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    assert invoke(command=command).stdout == ""
    assert invoke("--json", file, command=command).stdout == "" and json.loads(file.read_text()) == {"out": "None"}
    assert json.loads(invoke("--json", STDOUT, "--out", file, command=command).stdout) == {"out": str(file)}


def test_a_file_without_a_directory_shows_before_the_work(tmp_path: Path) -> None:
    for option in ("--json", "--out"):
        result = invoke(option, tmp_path / "nowhere" / "a.json", command=command)
        assert result.exit_code == 2 and "cannot be written (there is no directory" in result.stderr
    assert invoke("--out", "-", command=command).exit_code == 0  # a file of that name


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(click.BadParameter, match=r"cannot be written \(Is a directory\)"):
        write_json_file(tmp_path, {})


@pytest.mark.parametrize("start", [JSON, HTML])
def test_only_results_of_the_same_kind_are_replaced(start: str, exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "out"
    for content in (b"", b" {}", b"[1]", b"<html>"):
        path.write_bytes(content)
        if content.lstrip()[:1].decode() in start:
            check_replaceable(path, start)
        else:
            with pytest.raises(QuantizationError, match="another kind of file"):
                check_replaceable(path, start)
    for precious in (exported.checkpoint, exported.bundle.models["qdq"], Path(exported.data[4:]), Path(__file__)):
        with pytest.raises(QuantizationError, match="another kind of file"):
            check_replaceable(precious, start)
    check_replaceable(tmp_path / "new", start)


def test_a_file_of_a_bundle_is_not_a_place_for_results(exported: Exported) -> None:
    result = invoke("folds", exported.checkpoint, "--out", exported.bundle.directory / "manifest.json")
    assert result.exit_code == 2 and "is a file of the bundle" in result.stderr and result.stderr.count("\n") == 1
    check_replaceable(exported.bundle.directory / "parity.json", JSON)
