"""lsq_export/bundle/contents.py: the layout of the contract, and the same bytes for the same model."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

import lsq_export
from support.bundles import LAYOUT, export
from support.exported import SHAPE, Exported, content, images


def test_layout(exported: Exported) -> None:
    assert set(content(exported.bundle.directory)) == LAYOUT
    assert exported.bundle.directory.stat().st_mode & 0o777 == 0o755


def test_parity_and_report_belong_to_the_files(exported: Exported) -> None:
    parity = json.loads((exported.bundle.directory / "parity.json").read_text())
    assert parity["ok"] is True and parity["images"] == 24 and set(parity["formats"]) == {"qdq", "qoperator"}
    assert "conv2.input" in (exported.bundle.directory / "report.html").read_text(encoding="utf-8")


def test_the_same_model_gives_the_same_bytes(model: nn.Module, tmp_path: Path) -> None:
    """All files are the same, twice in one process: there are no dates in them.

    The models are the same, too, where the calibration data come in other portions.
    """
    first, second = (content(export(model, tmp_path / name).directory) for name in ("a", "b"))
    assert first == second
    portions = images(seed=0)[0].split(7)
    again = lsq_export.export(model, torch.ones(3, *SHAPE), tmp_path / "c", calibration=portions)
    for path in again.models.values():
        assert path.read_bytes() == first[str(path.relative_to(tmp_path / "c"))]


def test_one_format_alone(model: nn.Module, tmp_path: Path) -> None:
    bundle = export(model, tmp_path / "out", formats=["qdq"])
    assert list(bundle.models) == ["qdq"] and not (bundle.directory / "qoperator").exists()
    assert set(content(bundle.directory)) == {name for name in LAYOUT if not name.startswith("qoperator")}
    # the golden vectors come from the integer reference all the same
    assert lsq_export.verify(model, bundle, [images(seed=0)[0]]).ok
