"""Files whose outputs are codes: what they give, and what everything that reads a bundle makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import lsq_export
from calib.errors import DamagedError, QuantizationError
from lsq_export.bundle.directory import open_bundle
from lsq_export.bundle.quantized_outputs import grids_of, output_grids, with_last, without_last
from lsq_export.bundle.sums import changed_files, write_sums
from lsq_export.webpage.web_runtime import MODULE, SCRIPT
from lsq_export.webpage.writing import write_page
from support.bundles import export
from support.commands import invoke
from support.exported import Exported, images, prepared


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> lsq_export.Bundle:
    return export(prepared(seed=1), tmp_path_factory.mktemp("coded") / "out", quantized_output=True)


def golden(bundle: lsq_export.Bundle, name: str, kind: str) -> np.ndarray:
    path = bundle.directory / name / "test_data_set_0" / f"{kind}_0.pb"
    return onnx.numpy_helper.to_array(onnx.load_tensor(str(path)))


@pytest.mark.parametrize("name", ["qdq", "qoperator"])
def test_the_file_gives_the_codes_of_the_values(coded: lsq_export.Bundle, name: str) -> None:
    session = onnxruntime.InferenceSession(coded.models[name])
    (output,) = session.get_outputs()
    assert output.type == "tensor(uint8)"
    x, wanted = golden(coded, name, "input"), golden(coded, name, "output")
    (codes,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_array_equal(codes, wanted)
    assert wanted.dtype == np.uint8 and len(np.unique(wanted)) > 3
    grid = grids_of(coded.manifest["formats"][name])[output.name]
    whole = onnxruntime.InferenceSession(
        with_last(onnx.load(coded.models[name]), {output.name: grid}).SerializeToString()
    )
    (values,) = whole.run([output.name], {session.get_inputs()[0].name: x})
    np.testing.assert_array_equal(values, grid.values(codes))
    np.testing.assert_array_equal(grid.of_values(values), codes)


def test_its_file_ends_before_the_last_step_of_a_file_with_values(coded: lsq_export.Bundle) -> None:
    last = onnx.load(coded.models["qdq"]).graph.node[-1]
    assert last.op_type in ("QuantizeLinear", "Clip")
    assert onnx.load(coded.models["qoperator"]).graph.node[-1].op_type != "DequantizeLinear"


def test_taking_it_away_and_putting_it_back_is_the_same_graph(exported: Exported, coded: lsq_export.Bundle) -> None:
    grids = grids_of(coded.manifest["formats"]["qdq"])
    whole = with_last(onnx.load(coded.models["qdq"]), grids)
    onnx.checker.check_model(whole, full_check=True)
    assert output_grids(whole) == grids
    again = without_last(whole, grids)
    onnx.checker.check_model(again, full_check=True)
    assert [node.op_type for node in again.graph.node] == [n.op_type for n in onnx.load(coded.models["qdq"]).graph.node]
    with pytest.raises(QuantizationError, match="has no grid of 8 bits: export without quantized outputs"):
        output_grids(onnx.load(exported.bundle.models["qdq"]))  # its output is an accumulator


def test_it_is_verified_and_replayed(coded: lsq_export.Bundle) -> None:
    x = images(seed=0)[0]
    parity = lsq_export.verify(None, coded, [x])
    assert parity.ok and parity.formats["qoperator"].reference_mismatch == 0 and not parity.golden
    found = lsq_export.replay(coded, "onnxruntime", inputs=x.numpy(), inside=2)
    assert found.ok and all(run.difference is not None and run.difference.elements for run in found.runs)


def test_a_wrong_grid_in_the_manifest_is_named(coded: lsq_export.Bundle, tmp_path: Path) -> None:
    import shutil

    bundle = tmp_path / "copy"
    shutil.copytree(coded.directory, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["formats"]["qdq"]["outputs"]["output"]["zero_point"] += 1
    manifest["formats"]["qoperator"]["outputs"]["output"]["scale"] *= 1.01
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    write_sums(bundle)
    with pytest.raises(
        DamagedError, match=r"formats\.qdq\.outputs\.output\.zero_point is .*formats\.qoperator\.outputs"
    ):
        lsq_export.verify(None, open_bundle(bundle), [images(seed=0)[0]])


def test_those_who_receive_it_see_values(coded: lsq_export.Bundle) -> None:
    done = subprocess.run(
        [sys.executable, str(coded.directory / "run.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "logit" in done.stdout and "0 of 5 outputs differ" in done.stdout
    readme = (coded.directory / "README.md").read_text(encoding="utf-8")
    assert "gives `output` as codes, uint8: a value is " in readme
    assert changed_files(coded) == []


def test_an_output_that_stays_float_is_refused(tmp_path: Path) -> None:
    class Ends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = prepared(seed=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.net(x), dim=1)

    with pytest.raises(QuantizationError, match=r"stays float: export without quantized outputs$"):
        export(Ends(), tmp_path / "out", quantized_output=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_on_the_command_line(exported: Exported, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = invoke(
        "export", exported.checkpoint, "--out", out, "--quantized-output", "--images", 16, "--format", "qdq"
    )
    assert result.exit_code == 0, result.output
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["asked"] == {"quantized_output": True}
    assert set(manifest["formats"]["qdq"]["outputs"]["output"]) == {"codes", "scale", "zero_point", "type", "names"}
    assert invoke("verify", out).exit_code == 0


def test_a_page_knows_the_grid(coded: lsq_export.Bundle, tmp_path: Path) -> None:
    """Its script makes values of the first output with it; golden outputs are compared as codes."""
    (tmp_path / "package" / "dist").mkdir(parents=True)
    (tmp_path / "package" / "package.json").write_text('{"version": "1.30.0"}')
    for name in (SCRIPT, MODULE):
        (tmp_path / "package" / "dist" / name).write_bytes(b"-")
    about = json.loads(
        (write_page(coded, tmp_path / "page", runtime=tmp_path / "package") / "network.json").read_text()
    )
    assert about["grids"] == coded.manifest["formats"]["qoperator"]["outputs"]
    (output,) = about["golden"]["outputs"]
    assert output["type"] == "uint8" and output["scale"] is None
