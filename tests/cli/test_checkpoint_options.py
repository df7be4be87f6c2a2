"""cli/checkpoint_options.py: numbers with commas, and when the float model of a checkpoint is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from lsq_export.cli.checkpoint_options import Numbers, take_start


@pytest.mark.parametrize(("text", "numbers"), [("0.5", (0.5,)), ("0.5,0.25,1e-1", (0.5, 0.25, 0.1))])
def test_numbers(text: str, numbers: tuple[float, ...]) -> None:
    assert Numbers().convert(text, None, None) == numbers
    assert Numbers().convert(numbers, None, None) == numbers


@pytest.mark.parametrize("text", ["", "gray", "0.5;0.5", "0.5,,0.5"])
def test_what_are_no_numbers(text: str) -> None:
    with pytest.raises(click.BadParameter, match="use one number, or one for each channel"):
        Numbers().convert(text, None, None)


@pytest.mark.parametrize(
    ("given", "new_head", "epochs"), [(None, False, 0), (None, True, None), (3, False, 3), (3, True, 3), (0, True, 0)]
)
def test_a_checkpoint_is_trained_on_where_it_is_asked_for_or_has_a_new_head(
    given: int | None, new_head: bool, epochs: int | None, tmp_path: Path
) -> None:
    file = tmp_path / "net.pth"
    file.touch()
    options: dict[str, Any] = {"float_checkpoint": file, "new_head": new_head, "use_ema": False, "float_epochs": given}
    assert take_start(options, resume=False) == file
    assert options == {"new_head": new_head, "use_ema": False, "float_epochs": epochs}


def test_without_a_checkpoint_the_recipe_counts(tmp_path: Path) -> None:
    flags = {"new_head": False, "use_ema": False, "anyway": False}
    options: dict[str, Any] = {"float_checkpoint": None, "float_epochs": None, **flags}
    assert take_start(options, resume=False) is None and options["float_epochs"] is None
    options["float_checkpoint"] = tmp_path / "none.pth"
    with pytest.raises(click.UsageError, match="does not exist"):
        take_start(dict(options), resume=False)
    assert take_start(options, resume=True) == tmp_path / "none.pth"  # the state refuses it by name
