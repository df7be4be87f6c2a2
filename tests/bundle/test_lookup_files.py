"""A bundle with tables: the same outputs, the source of the operators, and a page that says how to build them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import nn

import lsq_export
from lsq_export.kernels import LIBRARY, find_compiler
from support.bundles import export
from support.exported import SHAPE, images


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, model: nn.Module) -> lsq_export.Bundle:
    return export(model, tmp_path_factory.mktemp("bundle") / "out", formats=("qoperator", "lookup"))


def test_verify_runs_it(bundle: lsq_export.Bundle, model: nn.Module) -> None:
    parity = lsq_export.verify(model, bundle, [images(seed=1)[0]])
    assert parity.ok and parity.formats["lookup"].reference_mismatch == 0
    assert parity.formats["lookup"].reference_elements > 0


@pytest.mark.slow
def test_its_readers_can_build_the_operators(bundle: lsq_export.Bundle, tmp_path: Path) -> None:
    page = (bundle.directory / "README.md").read_text(encoding="utf-8")
    line = next(part for part in page.split("`") if part.startswith("cc "))
    if find_compiler() is None:
        pytest.skip("no C compiler")
    line = line.replace("lookup/kernels", str(bundle.directory / "lookup" / "kernels"))
    subprocess.run(line, shell=True, check=True, cwd=tmp_path)
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(tmp_path / LIBRARY.name))
    x = torch.zeros(1, *SHAPE).numpy()
    runs = [
        onnxruntime.InferenceSession(
            bundle.directory / name / "model.onnx", options, providers=["CPUExecutionProvider"]
        )
        for name in ("qoperator", "lookup")
    ]
    first, second = (run.run(None, {run.get_inputs()[0].name: x})[0] for run in runs)
    assert (first == second).all()
