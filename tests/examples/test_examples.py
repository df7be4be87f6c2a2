"""The examples run as they stand, and the one for deployment needs numpy and onnxruntime alone."""

from __future__ import annotations

import ast
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import lsq_export
from calib.samples import Samples
from lsq_export.bundle.sums import write_sums
from lsq_export.calibrating import DEFAULT
from support.exported import Exported

EXAMPLES = Path(__file__).parents[2] / "examples"
OWN_MODEL, NOTEBOOK, DEPLOY = (EXAMPLES / name for name in ("01_own_model.py", "02_efficientnet.ipynb", "03_deploy.py"))
SMALLER = (
    ('load("digits")', 'load("digits", image_size=16)'),
    ("(1, 3, 32, 32)", "(1, 3, 16, 16)"),
    ("width=0.5", "width=0.25"),
    ('method="mse"', 'method="minmax"'),
)
MISSING_WHERE_IT_IS_DEPLOYED = ["torch", "onnx", "lsq_export", "calib"]


def run(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def deploy(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The script where the packages that it must not need cannot be imported."""
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({MISSING_WHERE_IT_IS_DEPLOYED!r})); "
        "del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return run("-c", code, DEPLOY, *arguments, cwd=cwd)


def cells() -> list[str]:
    return [cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]


# ---- an own model


@pytest.mark.slow
def test_own_model_is_exported_verified_and_deployed(tmp_path: Path) -> None:
    done = run(OWN_MODEL, "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "all promises hold" in done.stdout
    assert float(done.stdout.split("W4A4, trained ")[1].split("%")[0]) > 90
    received = deploy("out", cwd=tmp_path)
    assert received.returncode == 0, received.stdout + received.stderr


def test_own_model_has_a_loop_of_its_own() -> None:
    source = OWN_MODEL.read_text(encoding="utf-8")
    assert "lsq_export.training" not in source
    assert len([line for line in source.splitlines() if line.strip()]) <= 55


# ---- the notebook


def test_notebook_is_valid_and_holds_no_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            compile(cell.source, cell.id, "exec")
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.slow
def test_notebook_runs(tmp_path: Path) -> None:
    """On smaller images, with fewer channels and epochs and quicker first grids, else as it stands."""
    code = "\n\n".join(cells())
    for was, smaller in SMALLER:
        assert was in code
        code = code.replace(was, smaller)
    (tmp_path / "notebook.py").write_text(code, encoding="utf-8")
    done = run("notebook.py", cwd=tmp_path, EXAMPLE_EPOCHS="1", EXAMPLE_OUT="out")
    assert done.returncode == 0, done.stderr
    assert "all promises hold" in done.stdout
    assert (tmp_path / "out" / "manifest.json").is_file()


# ---- deployment


def test_deployment_imports_numpy_and_onnxruntime_alone() -> None:
    imported = set()
    for node in ast.walk(ast.parse(DEPLOY.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported - sys.stdlib_module_names == {"numpy", "onnxruntime"}


@pytest.mark.parametrize("name", ["qoperator", "qdq"])
def test_deployment_accepts_a_bundle(exported: Exported, name: str, tmp_path: Path) -> None:
    done = deploy(exported.bundle.directory, name, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "checksums: as exported" in done.stdout
    assert "golden vectors: good, 0 of " in done.stdout
    assert "latency: " in done.stdout


def test_deployment_takes_several_inputs_and_files_that_must_not_be_optimized(tmp_path: Path) -> None:
    """For OpenVINO, whose pairs of grids ONNX Runtime would merge."""
    net, random = Gated().eval(), torch.Generator().manual_seed(0)
    batch = {"image": torch.randn(32, 3, 8, 8, generator=random), "more": torch.randn(32, 4, generator=random)}
    config = replace(DEFAULT, weight_bits=4, activation_bits=4)
    network = lsq_export.calibrate(net, [batch], config)
    example = Samples({name: tensor[:1] for name, tensor in batch.items()})
    bundle = lsq_export.export(network, example, tmp_path / "out", calibration=[batch], target="openvino", sample=False)
    assert bundle.manifest["formats"]["qdq"]["optimization"] == "disabled"
    done = deploy(bundle.directory, "qdq", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "golden vectors: good, " in done.stdout and ", more [" in done.stdout


class Gated(nn.Module):
    """An image [N, 3, 8, 8] and more [N, 4] -> [N, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)
        self.d = nn.Linear(4, 8)

    def forward(self, image: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.a(image))
        x = torch.relu(self.b(x) + x).mean((2, 3))
        y: torch.Tensor = self.c(x + torch.relu(self.d(more)))
        return y


def test_deployment_names_a_changed_file(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    with (bundle.directory / "parity.json").open("a", encoding="utf-8") as file:
        file.write(" ")
    done = deploy(bundle.directory, cwd=tmp_path)
    assert done.returncode == 1
    assert "missing or changed: parity.json" in done.stdout


def other_golden(
    exported: Exported, tmp_path: Path, name: str, change: Callable[[np.ndarray], None]
) -> lsq_export.Bundle:
    """A copy of the bundle with other golden outputs, whose checksums are right."""
    bundle = exported.copy(tmp_path)
    file = bundle.directory / name / "test_data_set_0" / "output_0.pb"
    golden = numpy_helper.to_array(onnx.load_tensor(file)).copy()
    change(golden)
    file.write_bytes(numpy_helper.from_array(golden, "output").SerializeToString())
    write_sums(bundle.directory)
    return bundle


def next_float(golden: np.ndarray) -> None:
    """One element, by its last bit."""
    golden.flat[0] = np.nextafter(golden.flat[0], np.inf)


def a_code_further(golden: np.ndarray) -> None:
    """One element, by a hundredth of the largest: more than rounding, and the same classes."""
    golden[0, golden[0].argmax()] += 0.01 * np.abs(golden).max()


def other_class(golden: np.ndarray) -> None:
    """The outputs of one image in another order."""
    golden[0] = np.roll(golden[0], 1)


@pytest.mark.parametrize("change", [next_float, a_code_further, other_class])
def test_deployment_holds_integer_files_to_the_bit(
    exported: Exported, tmp_path: Path, change: Callable[[np.ndarray], None]
) -> None:
    done = deploy(other_golden(exported, tmp_path, "qoperator", change).directory, cwd=tmp_path)
    assert done.returncode == 1
    assert "checksums: as exported" in done.stdout and "golden vectors: WRONG, " in done.stdout


ROUNDED = [
    (next_float, 0, "by no more than float rounding"),
    (a_code_further, 0, "the same classes, SQNR "),
    (other_class, 1, "other classes, SQNR "),
]


@pytest.mark.parametrize(("change", "code", "why"), ROUNDED)
def test_deployment_lets_qdq_files_round(
    exported: Exported, tmp_path: Path, change: Callable[[np.ndarray], None], code: int, why: str
) -> None:
    done = deploy(other_golden(exported, tmp_path, "qdq", change).directory, "qdq", cwd=tmp_path)
    assert (done.returncode, why in done.stdout) == (code, True), done.stdout


@pytest.mark.parametrize(("change", "code", "why"), ROUNDED)
def test_deployment_lets_float_islands_round(
    exported: Exported, tmp_path: Path, change: Callable[[np.ndarray], None], code: int, why: str
) -> None:
    bundle = other_golden(exported, tmp_path, "qoperator", change)
    file = bundle.directory / "manifest.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    assert manifest["islands"] == []
    manifest["islands"] = [{"name": "gelu", "operator": "Gelu", "codes": ["b.input.codes"]}]
    file.write_text(json.dumps(manifest), encoding="utf-8")
    write_sums(bundle.directory)
    done = deploy(bundle.directory, cwd=tmp_path)
    assert (done.returncode, why in done.stdout) == (code, True), done.stdout
    assert "float islands: gelu" in done.stdout


def test_golden_vectors_are_good_if_the_network_itself_is_as_sensitive() -> None:
    judge = runpy.run_path(str(DEPLOY))["judge"]
    expected = np.array([[1.0, 0.0]], np.float32)
    found = np.array([[1.2, 0.0]], np.float32)  # 14 dB
    assert not judge([found], [expected], same_bits=False)[0]
    assert judge([found], [expected], same_bits=False, close_db=10.0)[0]
    assert not judge([np.full_like(found, np.nan)], [expected], same_bits=False)[0]


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1, 300), (1, 128, 2, 2)])
def test_tensors_are_read_as_onnx_reads_them(shape: tuple[int, ...], tmp_path: Path) -> None:
    tensor = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    (tmp_path / "x.pb").write_bytes(numpy_helper.from_array(tensor, "some name").SerializeToString())
    read = runpy.run_path(str(DEPLOY))["read_tensor"](tmp_path / "x.pb")
    assert read.shape == shape
    assert np.array_equal(read, tensor)


def test_other_types_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pb").write_bytes(numpy_helper.from_array(np.arange(3, dtype=np.int8), "x").SerializeToString())
    with pytest.raises(ValueError, match="a tensor of the type 3"):
        runpy.run_path(str(DEPLOY))["read_tensor"](tmp_path / "x.pb")
