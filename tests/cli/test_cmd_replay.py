"""`lsq-export replay`: table, JSON and exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from support.commands import invoke
from support.exported import Exported


def test_a_bundle_that_is_the_same(exported: Exported) -> None:
    result = invoke("replay", exported.bundle.directory, "--runtime", "onnxruntime")
    assert result.exit_code == 0, result.output
    assert "0 of 10" in result.stdout and result.stdout.count("same") == 2
    assert "onnxruntime, qdq: same" in result.stderr


def test_json_with_data(exported: Exported) -> None:
    result = invoke(
        *("replay", exported.bundle.directory, "--runtime", "onnxruntime", "--format", "qdq", "--json"),
        *("--data", exported.data, "--images", 3, "--python", sys.executable),
    )
    (run,) = json.loads(result.stdout)["runs"]
    assert result.exit_code == 0 and run["images"] == 5 and run["difference"]["differing"] == 0


def test_one_that_refuses_fails(exported: Exported) -> None:
    result = invoke("replay", exported.bundle.directory, "--runtime", "reference", "--format", "qoperator")
    assert result.exit_code == 1
    assert "lsq-export export --target onnx-standard" in " ".join(result.stdout.split())


def test_a_damaged_bundle_fails(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    bundle.models["qdq"].write_bytes(b"")
    result = invoke("replay", bundle.directory, "--runtime", "onnxruntime")
    assert result.exit_code == 1 and result.stderr.startswith("error: bundle") and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give either --runtime NAME or --all"),
        (("--runtime", "onnxruntime", "--all"), "give either --runtime NAME or --all"),
        (("--runtime", "onxruntime"), "did you mean onnxruntime?"),
        (("--runtime", "onnxruntime", "--format", "lookup"), "has no format 'lookup'"),
        (("--runtime", "onnxruntime", "--timeout", "0"), "0"),
        (("--runtime", "onnxruntime", "--data", "digits"), "replay takes npz:FILE"),
    ],
)
def test_bad_input(exported: Exported, arguments: tuple[str, ...], said: str) -> None:
    result = invoke("replay", exported.bundle.directory, *arguments)
    assert result.exit_code == 2 and said in result.stderr
