"""Bundles of a small network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

import lsq_export
from support.exported import SHAPE, images

GOLDEN = ("test_data_set_0/input_0.pb", "test_data_set_0/output_0.pb")


LAYOUT = {
    *(f"{name}/{file}" for name in ("qdq", "qoperator") for file in ("model.onnx", *GOLDEN)),
    *("README.md", "run.py", "example.cpp", "example.mjs", "manifest.schema.json"),
    *("sample/input.npy", "sample/prepared.npy", "sample/output.npy"),
    *("reference/trained.onnx", "reference/folded.onnx", "manifest.json", "parity.json", "report.html", "SHA256SUMS"),
}


def export(model: nn.Module, out: Path, **options: Any) -> lsq_export.Bundle:
    return lsq_export.export(model, torch.zeros(1, *SHAPE), out, calibration=[images(seed=0)[0]], **options)
