"""training.first_look: weights that do not fit the data are told from weights that are good for nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lsq_export.data.dataset import Dataset, TensorSplit
from lsq_export.data.loading import load
from lsq_export.training.first_look import OTHER_ORDER, guessing, reason, renumbered

CLASSES = 5


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
    text = reason(0.0, data, 1.0)
    assert "with the classes in another order it would be 100.00%" in text and "class 0, class 1" in text
    assert "here" not in reason(0.0, clear(), 1.0)


def test_no_order_helps_a_network_that_has_learned_nothing() -> None:
    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.eye(CLASSES)[0].expand(len(x), -1)

    assert renumbered(Constant(), clear()) == 1 / CLASSES < OTHER_ORDER
    assert "no mean and std" in reason(0.2, clear(), 0.2) and "order of the classes" in reason(0.2, clear(), 0.2)


def test_what_guessing_gives() -> None:
    digits = load("digits", image_size=8)
    assert guessing(digits) == pytest.approx(0.1 + 0.15 * 0.9)
    assert guessing(clear()) == pytest.approx(0.2 + 0.15 * 0.8)
    few = Dataset("few", digits.train, TensorSplit(torch.zeros(4, 1), torch.zeros(4)), 2, (1, 8, 8), {})
    assert guessing(few) == pytest.approx(1.0)
    assert "mean [0.3055, 0.3055, 0.3055]" in reason(0.1, digits, 0.2)
