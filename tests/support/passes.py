"""The passes of the folds, spoiled, left out or unwatched, to show that somebody notices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import onnx_ir as ir
import pytest

from lsq_export.rewrite import fold as stage
from lsq_export.rewrite.contract.passes import Pass, State


def change(monkeypatch: pytest.MonkeyPatch, name: str, changed: Callable[[Pass], Pass | None]) -> None:
    """Put another pass into the place of one in all folds; None leaves it out."""
    assert any(step.name == name for step in stage.STRIDED), name
    folds = {
        fold: tuple(new for step in passes if (new := changed(step) if step.name == name else step) is not None)
        for fold, passes in stage.FOLDS.items()
    }
    monkeypatch.setattr(stage, "FOLDS", folds)


def leave_out(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    change(monkeypatch, name, lambda step: None)


def spoil(monkeypatch: pytest.MonkeyPatch, name: str, damage: Callable[[ir.Model], None]) -> None:
    """The pass does its work, and then something else."""

    def spoiled(step: Pass) -> Pass:
        def run(model: ir.Model, state: State) -> None:
            step.run(model, state)
            damage(model)

        return replace(step, run=run)

    change(monkeypatch, name, spoiled)


def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pass is held to what it keeps: for tests of what comes after the fold."""
    monkeypatch.setattr(stage, "probe", lambda batches: (None, batches))
