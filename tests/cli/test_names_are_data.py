"""Names of tensors, layers, files and classes are data: no terminal obeys them, and no browser."""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from rich.console import Console

import lsq_export
from calib.errors import shown
from calib.tables import Table
from lsq_export import cli, progress
from lsq_export.bundle.sums import write_sums
from lsq_export.cli import output
from lsq_export.report import render
from support.commands import invoke
from support.exported import Exported
from support.parities import format_parity, layer, parity_of

NASTY = "a\x1b[2J\nFAILED\r\x07\x9b31m\u202egnp\u2028<script>[red]b[/red]&\ud800"
OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]")


def harmless(text: str) -> bool:
    """Nothing in it but printable characters and line ends of ours."""
    return not OBEYED.search(text) and "\nFAILED" not in text


def test_what_is_not_printable_is_escaped() -> None:
    assert shown("layer1.0/conv β′ [3] 猫") == "layer1.0/conv β′ [3] 猫"
    assert shown("a\nb\x1b[0m\u202e\ud800") == r"a\nb\x1b[0m\u202e\ud800"
    assert harmless(shown(NASTY)) and shown(Path("a\tb")) == r"a\tb"


def test_lines_tables_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(NASTY)
    output.say(NASTY, err=True)
    output.print_table(NASTY, (NASTY, ">b"), [(NASTY, 1)])
    output.print_json({NASTY: NASTY.replace("\ud800", "")})
    output.console().print(shown(NASTY))
    found = capsys.readouterr()
    assert harmless(found.out) and harmless(found.err)
    assert "[red]b[/red]" in found.out  # markup is text


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_and_spinners(terminal: bool) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=300, color_system=None, legacy_windows=False)
    with progress.bar(console, NASTY, 1) as advance:
        advance(NASTY)
    with progress.stages(console, NASTY, last=True) as stage:
        stage(NASTY)
    text = written.getvalue()
    assert r"\x1b[2J\nFAILED" in text and "[red]b[/red]" in text
    assert "\x1b[2J" not in text and "\u202e" not in text and "\x9b" not in text


def test_what_objects_show() -> None:
    table = Table(NASTY, ("name", ">n"), [(NASTY, 1)], [NASTY])
    assert harmless(table.text()) and harmless(table.html())
    assert "<script>" not in table.html()


def test_the_report(exported: Exported) -> None:
    name = NASTY.replace("\ud800", "")  # no file can hold that one
    parity = parity_of(replace(format_parity(), layers=(replace(layer(0, 0), name=name),))).to_dict()
    manifest = json.loads(json.dumps(exported.bundle.manifest).replace('"conv2', json.dumps(name)[:-1] + "conv2"))
    manifest["outputs"], manifest["target"] = [name], name
    html = render(manifest, parity)
    assert not OBEYED.search(html) and html.count("<script>") == 1 and "&lt;script&gt;" in html


def test_a_class_and_a_tensor_of_a_bundle(exported: Exported, tmp_path: Path) -> None:
    """What `verify` and `inspect` print of a bundle that names its parts so."""
    bundle = exported.copy(tmp_path)
    name = NASTY.replace("\ud800", "")
    path = bundle.models["qoperator"]
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    for node in model.graph.node:
        node.input[:] = [name if entry == tensor.name else entry for entry in node.input]
        node.name = name
    tensor.name = name
    onnx.save(model, path)
    write_sums(bundle.directory)
    for arguments in (("inspect", bundle.directory), ("inspect", bundle.directory, "--json"), ("inspect", path)):
        result = invoke(*arguments)
        assert result.exit_code == 0 and harmless(result.output), result.output
    result = invoke("verify", bundle.directory)
    assert result.exit_code == 1 and harmless(result.output), result.output


def test_arguments() -> None:
    for arguments in (
        ("inspect", f"{NASTY[:-1]}.onnx"),
        ("verify", NASTY[:-1]),
        (NASTY[:-1],),
        ("train", "--model", NASTY[:-1], "--data", "digits", "--out", "x.safetensors"),
        ("train", "--model", "tiny", "--data", f"npz:{NASTY[:-1]}", "--out", "x.safetensors"),
        ("train", f"--{NASTY[:-1]}"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 2 and harmless(result.stderr) and result.stderr.count("\n") == 1, result.stderr


def test_what_a_user_of_python_sees(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path / "x\x1b[2J")
    assert harmless(repr(bundle)) and harmless(repr(lsq_export.verify(None, bundle, [torch.zeros(1, 1, 16, 16)])))


def echoes(source: str) -> Iterator[int]:
    """Lines in which something is printed by click itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("click.echo", "click.secho", "print"):
            yield node.lineno


def test_commands_print_through_one_place() -> None:
    """`output.say` and the tables; besides them, whole texts of ASCII JSON, and the lines of errors and warnings."""
    files: dict[str, int] = {}
    for file in Path(str(cli.__file__)).parent.glob("*.py"):
        count = len(list(echoes(file.read_text(encoding="utf-8"))))
        files |= {file.name: count} if count else {}
    expected = {
        "output.py": 3,
        "group.py": 2,
        "warning_lines.py": 1,
        "cmd_bench.py": 1,
        "bundle_options.py": 1,
    }
    assert files == expected
