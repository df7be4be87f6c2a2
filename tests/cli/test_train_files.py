"""cli/train_files.py: what Ctrl-C says is what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lsq_export.cli.train_files import Files
from lsq_export.training.state import State, StateFile


def files(out: Path) -> Files:
    named: dict[str, Any] = {"log": out, "curve": out, "curve_wanted": False, "save_every": 0}
    return Files(out=out, **named, force=False, resume=False)


@pytest.mark.parametrize(
    ("phase", "done", "says"),
    [
        ("low-bit", 1, "epoch 1 of 10 is kept in OUT.safetensors: the same command with --resume continues"),
        ("float", 3, "epoch 3 of 25 of the float training is kept in OUT.state.safetensors: the same"),
        ("float", 0, "no epoch was complete: the same command with --resume continues, --force starts anew"),
        (None, 0, "no epoch was complete, so nothing is kept"),
    ],
)
def test_ctrl_c_says_what_is_kept(phase: str | None, done: int, says: str, tmp_path: Path) -> None:
    kept = files(tmp_path / "OUT.safetensors")
    if phase is not None:
        identity = {"float_recipe": {"epochs": 25}, "recipe": {"epochs": 10}}
        state = State({"history": [{}] * done}, {"model.x": torch.zeros(1)})
        StateFile(kept.state, identity).write(phase, state, {})
    assert f"interrupted; {says}" in str(kept.interruption()).replace(f"{tmp_path}/", "")


def test_an_epoch_that_was_written_after_the_state_counts(tmp_path: Path) -> None:
    kept = files(tmp_path / "OUT.safetensors")
    StateFile(kept.state, {"recipe": {"epochs": 10}}).write("low-bit", State({"history": []}, {}), {})
    assert "no epoch" in str(kept.interruption()) and "epoch 2 of 10 is kept" in str(kept.interruption(written=2))
    kept.state.write_bytes(b"damaged")
    assert "nothing is kept" in str(kept.interruption())
