"""Processes of runtimes: whatever one does is an answer, and nothing of it stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from lsq_export.replaying import runtime
from lsq_export.replaying.processes import Place
from support.onnx_files import F32, U8, build, node

ORT = runtime.get("onnxruntime")
X = np.linspace(-3, 3, 20, dtype=F32).reshape(5, 4)


def pairs(batch: str | int = "batch") -> onnx.ModelProto:
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "y")]
    proto = build(nodes, inputs=(onnx.TensorProto.FLOAT, [batch, 4]), s=F32(0.5), z=U8(3))
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return proto


def place(directory: Path, script: str, seconds: float = 60) -> Place:
    """An interpreter that does what a script says."""
    program = directory / "python"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    return Place(str(program), seconds)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_batches_are_filled_up_and_cut(batch: int) -> None:
    ran = Place().run(ORT, pairs(batch), {"x": X}, batch)
    assert ran.how == "ran", ran.why
    expected = (np.clip(np.rint(X / F32(0.5)) + 3, 0, 255) - 3) * F32(0.5)
    assert np.array_equal(ran.outputs["y"], expected) and ran.version and ran.seconds > 0


def test_a_runtime_that_refuses_says_why() -> None:
    broken = pairs()
    broken.graph.node[0].op_type = "NoSuchOperator"
    ran = Place().run(ORT, broken, {"x": X}, 5)
    assert ran.how == "refused" and "NoSuchOperator" in ran.why and "\n" not in ran.why and ran.version
    assert len(ran.why) <= 301


@pytest.mark.parametrize(
    ("script", "how", "why"),
    [
        ("kill -SEGV $$", "crashed", "its process was ended by SIGSEGV"),
        ("echo one >&2; echo the reason >&2; exit 3", "crashed", "its process ended with exit code 3 (the reason)"),
        ("echo no json", "crashed", "its process ended with exit code 0"),
        ("exec sleep 60", "out of time", "it was ended after 0 s"),
        ("sleep 60 & wait", "out of time", "it was ended after 0 s"),
    ],
)
def test_one_that_ends_or_hangs_is_a_line(tmp_path: Path, script: str, how: str, why: str) -> None:
    ran = place(tmp_path, script, seconds=0.4 if how == "out of time" else 60).run(ORT, pairs(), {"x": X}, 5)
    assert (ran.how, ran.why) == (how, why) and not ran.outputs


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    answer = json.dumps({"missing": "tract"})
    ran = place(tmp_path, f"cat >/dev/null; echo '{answer}'").run(runtime.get("tract"), pairs(), {"x": X}, 5)
    assert (ran.how, ran.why) == ("missing", "tract is not installed")
