"""The examples run as they stand, and the one for deployment needs numpy and onnxruntime alone."""

from __future__ import annotations

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from support.exported import Exported

EXAMPLES = Path(__file__).parents[2] / "examples"
OWN_MODEL, NOTEBOOK, DEPLOY = (EXAMPLES / name for name in ("01_own_model.py", "02_efficientnet.ipynb", "03_deploy.py"))
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
    (tmp_path / "notebook.py").write_text("\n\n".join(cells()), encoding="utf-8")
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
    assert "golden vectors: 0 of " in done.stdout
    assert "latency: " in done.stdout


def test_deployment_names_a_changed_file(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    with (bundle.directory / "parity.json").open("a", encoding="utf-8") as file:
        file.write(" ")
    done = deploy(bundle.directory, cwd=tmp_path)
    assert done.returncode == 1
    assert "missing or changed: parity.json" in done.stdout


def test_deployment_notices_other_results(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    file = bundle.directory / "qoperator" / "test_data_set_0" / "output_0.pb"
    golden = numpy_helper.to_array(onnx.load_tensor(file)).copy()
    golden.flat[0] = np.nextafter(golden.flat[0], np.inf)
    file.write_bytes(numpy_helper.from_array(golden, "output").SerializeToString())
    done = deploy(bundle.directory, cwd=tmp_path)
    assert done.returncode == 1
    assert "golden vectors: 1 of " in done.stdout


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1, 300), (1, 128, 2, 2)])
def test_tensors_are_read_as_onnx_reads_them(shape: tuple[int, ...], tmp_path: Path) -> None:
    tensor = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    (tmp_path / "x.pb").write_bytes(numpy_helper.from_array(tensor, "some name").SerializeToString())
    read = runpy.run_path(str(DEPLOY))["read_tensor"](tmp_path / "x.pb")
    assert read.shape == shape
    assert np.array_equal(read, tensor)


def test_other_types_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pb").write_bytes(numpy_helper.from_array(np.arange(3), "x").SerializeToString())
    with pytest.raises(ValueError, match="no float32 tensor"):
        runpy.run_path(str(DEPLOY))["read_tensor"](tmp_path / "x.pb")
