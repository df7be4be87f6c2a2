"""export for a target: what is written, asked for and refused; the bundle verifies afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

import lsq_export
from calib.errors import QuantizationError
from support.commands import invoke
from support.exported import SHAPE, Exported, images, prepared


def export(tmp_path: Path, **options: Any) -> lsq_export.Bundle:
    return lsq_export.export(prepared(3), torch.zeros(1, *SHAPE), tmp_path / "out", calibration=[images(1)], **options)


def test_a_fixed_batch_and_an_operator_set_are_kept_by_the_bundle(tmp_path: Path) -> None:
    """Of three, which no batch of the data has: verify takes it apart, and run.py repeats its sample."""
    bundle = export(tmp_path, target="openvino", batch=3, opset=20)
    assert bundle.parity is not None and bundle.parity.ok
    assert bundle.manifest["asked"] == {"opset": 20, "batch": 3} and "INFERENCE_PRECISION" in bundle.manifest["advice"]
    assert bundle.manifest["input"]["shape"] == [3, *SHAPE] and bundle.manifest["opset"] == 20
    assert "INFERENCE_PRECISION_HINT" in (bundle.directory / "README.md").read_text()
    assert lsq_export.lint(bundle.models["qdq"], "openvino").ok
    again = lsq_export.verify(None, bundle, [images(2)])
    assert again.ok and again.images == len(images(2)[0]), again.failures
    done = subprocess.run([sys.executable, "run.py"], cwd=bundle.directory, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_another_batch_than_the_manifest_says_is_noticed(tmp_path: Path) -> None:
    """What was asked for is part of what verification holds files to."""
    from lsq_export.bundle.sums import write_sums

    bundle = export(tmp_path, target="ort-cpu", formats=["qdq"], batch=2)
    file = onnx.load(bundle.models["qdq"])
    file.opset_import[0].version += 1
    onnx.save(file, bundle.models["qdq"])
    write_sums(bundle.directory)
    result = invoke("verify", bundle.directory, "--no-write")
    assert result.exit_code in (1, 2) and "opset" in result.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "vitis-xint8"}, r"the target vitis-xint8 does not take this network as qdq: .* has the scale"),
        ({"target": "tidl"}, r"does not take this network .*zero point .*quantize the input symmetrically"),
        ({"target": "native-int4", "opset": 17}, r"opset is 17, but the types or operators of the qdq file need 21"),
        ({"opset": 12}, "opset is 12: use 17 to 26"),
        ({"batch": 0}, "batch is 0: use 1 to 65536"),
        ({"target": "onnx-standard", "opset": 17}, "has operator set 17, and at least 19 is read"),
    ],
)
def test_what_a_target_does_not_take_is_refused_before_anything_is_written(
    options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(QuantizationError, match=says) as raised:
        export(tmp_path, **options)
    assert "\n" not in str(raised.value) and not (tmp_path / "out").exists()


def test_the_command_line_has_the_same_options(exported: Exported, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--out", out, "--target", "portable", "--batch", "2", "--opset", "18", "--images", "24")
    result = invoke("export", exported.checkpoint, *arguments)
    assert result.exit_code == 0, result.stderr
    assert invoke("lint", out / "qdq" / "model.onnx", "--target", "portable").exit_code == 0
    assert invoke("lint", out / "qdq" / "model.onnx", "--target", "tensorrt").exit_code == 1
    assert invoke("export", exported.checkpoint, "--out", tmp_path / "no", "--opset", "9").exit_code == 2
