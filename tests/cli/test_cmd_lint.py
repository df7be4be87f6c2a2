"""`lsq-export lint`: lines, JSON and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from lsq_export import targets
from support.commands import invoke
from support.onnx_files import F32, U8, build, node


@pytest.fixture
def clipped(tmp_path: Path) -> Path:
    """Codes with a Clip on them, as portable compilers misread it."""
    path = tmp_path / "clipped.onnx"
    names = [f"clip{i}" for i in range(5)]
    nodes = [node("QuantizeLinear", "x s z", "q")]
    nodes += [node("Clip", f"{before} lo hi", name, name=name) for before, name in zip(["q", *names], names)]  # noqa: B905
    onnx.save(build([*nodes, node("DequantizeLinear", "clip4 s z", "y")], s=F32(1), z=U8(3), lo=U8(0), hi=U8(15)), path)
    return path


def test_a_file_that_passes(clipped: Path) -> None:
    result = invoke("lint", clipped)
    assert result.exit_code == 0 and result.stdout == "ort-cpu: passes\n"


def test_a_file_that_breaks_rules(clipped: Path) -> None:
    result = invoke("lint", clipped, "--target", "opencv")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "opencv: 1 rule broken",
        "  error no-clip-on-codes",
        *(f"    Clip clip{i}: is on codes of the type UINT8" for i in range(3)),
        "    and 2 more",
        "    instead: put the Clip in float in front of QuantizeLinear, as export for this target does",
        "    source:  measured with OpenCV 5.0.0.93 on 2026-11-27: the classic engine refuses Clip on UINT8 codes",
    ]
    assert "clip4" in invoke("lint", clipped, "--target", "opencv", "--places", "9").stdout


def test_all_targets_and_json(clipped: Path) -> None:
    result = invoke("lint", clipped, "--target", "all", "--json")
    assert result.exit_code == 1
    found = {entry["target"]: entry for entry in json.loads(result.stdout)}
    assert list(found) == targets.names()
    assert found["ort-cpu"] == {"file": str(clipped), "target": "ort-cpu", "findings": [], "ok": True}
    (finding,) = found["opencv"]["findings"]
    assert finding["rule"] == "no-clip-on-codes" and len(finding["places"]) == 5 and not finding["is_note"]
    assert finding["places"][4] == {"node": "Clip clip4", "what": "is on codes of the type UINT8"}


def test_bad_input(clipped: Path, tmp_path: Path) -> None:
    for arguments, said in (
        ((clipped, "--target", "gpu"), "target 'gpu' is unknown: use ort-cpu"),
        ((tmp_path / "no.onnx",), "is no file: give an ONNX file"),
        ((tmp_path,), "is a directory: give an ONNX file"),
    ):
        result = invoke("lint", *arguments)
        assert result.exit_code == 2 and result.stderr.startswith("error: ") and said in result.stderr
        assert result.stderr.count("\n") == 1
