"""training.first_look: weights that do not fit the data are told from weights that are good for nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lsq_export.data.dataset import Dataset, TensorSplit
from lsq_export.data.loading import load
from lsq_export.training.first_look import OTHER_ORDER, Look, concern, far_below, guessing, renumbered
from lsq_export.training.other_settings import Tried
from lsq_export.training.own_accuracy import Stated

CLASSES = 5
NONE_BETTER = Tried(tried=8, images=50, given=0.2, best=0.2, options="")


class Pixels(nn.Module):
    """The pixels are the logits, with the classes in this order."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, self.order]


def clear(names: list[str] | None = None) -> Dataset:
    """Images whose brightest pixel is at the place of their class."""
    y = torch.arange(300) % CLASSES
    x = torch.randn(300, CLASSES, generator=torch.Generator().manual_seed(0)) * 0.1
    x[torch.arange(300), y] += 1
    split = TensorSplit(x.reshape(300, 1, 1, CLASSES), y)
    how = {"mean": None, "std": None, "classes": names}
    return Dataset("clear", split, split, CLASSES, (1, 1, CLASSES), how)


def test_classes_in_another_order_are_found() -> None:
    data = clear([f"class {number}" for number in range(CLASSES)])
    assert renumbered(Pixels([0, 1, 2, 3, 4]), data) == renumbered(Pixels([3, 0, 4, 2, 1]), data) == 1
    text = concern(Look(0.0, None), data, 1.0, NONE_BETTER)
    assert "with the classes in another order it would be 100.00%" in text and "class 0, class 1" in text
    assert "here" not in concern(Look(0.0, None), clear(), 1.0, NONE_BETTER)


def test_no_order_helps_a_network_that_has_learned_nothing() -> None:
    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.eye(CLASSES)[0].expand(len(x), -1)

    assert renumbered(Constant(), clear()) == 1 / CLASSES < OTHER_ORDER
    text = concern(Look(0.2, Stated("best_acc1", 0.97)), clear(), 0.2, NONE_BETTER)
    assert "no mean and std; the file says best_acc1 97.00%" in text and "check --mean" in text
    assert "order of the classes" in text and "7 other sizes and normalizations are not clearly better on 50 of" in text


def test_what_guessing_gives() -> None:
    digits = load("digits", image_size=8)
    assert guessing(digits) == pytest.approx(0.1 + 0.15 * 0.9)
    assert guessing(clear()) == pytest.approx(0.2 + 0.15 * 0.8)
    few = Dataset("few", digits.train, TensorSplit(torch.zeros(4, 1), torch.zeros(4)), 2, (1, 8, 8), {})
    assert guessing(few) == pytest.approx(1.0)
    assert "mean 0.3055, std" in concern(Look(0.1, None), digits, 0.2, NONE_BETTER)


def test_settings_that_are_better_come_first() -> None:
    tried = Tried(tried=8, images=50, given=0.2, best=0.9, options="--mean 0.5 --std 0.5")
    text = concern(Look(0.2, None), clear(), 1.0, tried)
    assert text.endswith("--mean 0.5 --std 0.5 gives 90.00% on 50 of the test images, and what is given here 20.00%")


def test_an_accuracy_far_below_what_the_file_says() -> None:
    look = Look(0.83, Stated("acc", 0.97))
    assert far_below(look) and not far_below(Look(0.95, look.stated)) and not far_below(Look(0.1, None))
    assert "83.00% is far below what the file says of itself" in concern(look, clear(), 1.0, NONE_BETTER)
