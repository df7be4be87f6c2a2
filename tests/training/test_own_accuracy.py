"""training.own_accuracy: what checkpoints say of themselves, under many names, and what they do not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lsq_export.training.own_accuracy import Stated, own_accuracy

WEIGHTS = {"fc.weight": torch.zeros(2, 2), "acc": torch.ones(3)}


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        ({"best_acc1": torch.tensor(97.0)}, Stated("best_acc1", 0.97)),
        ({"best_prec1": 76.13}, Stated("best_prec1", 0.7613)),
        ({"acc": 0.5, "epoch": 90}, Stated("acc", 0.5)),
        ({"val_accuracy": np.float64(0.5)}, Stated("val_accuracy", 0.5)),
        ({"metrics": {"top1": 75.0, "top5": 92.0}}, Stated("top1", 0.75)),
        ({"acc@1": 70.0, "best_acc": 60.0}, Stated("best_acc", 0.6)),
        ({"train_acc": 99.0, "acc5": 90.0, "accumulated": 3, "best_epoch": 7, "loss": 0.3}, None),
        ({"acc": -1.0, "top1": float("nan"), "accuracy": True, "prec1": "high", "val_acc": 101}, None),
        ({"metric": 76.5, "epoch": 9, "arch": "resnet18"}, Stated("metric", 0.765)),
        ({"metric": 76.5, "best_acc1": 77.0}, Stated("best_acc1", 0.77)),
        ({"metric": 0.8}, None),  # a loss, say
        ({"nested": {"metric": 76.5}}, None),
        ({}, None),
    ],
)
def test_names_and_values(beside: dict[str, Any], expected: Stated | None, tmp_path: Path) -> None:
    torch.save({"state_dict": WEIGHTS, **beside}, tmp_path / "net.pth")
    found = own_accuracy(tmp_path / "net.pth")
    assert (found and found.name) == (expected and expected.name)
    assert (found and found.accuracy) == pytest.approx(expected and expected.accuracy)


def test_a_metric_without_weights_beside_it_is_anything(tmp_path: Path) -> None:
    torch.save({"model": WEIGHTS, "metric": 76.5}, tmp_path / "net.pth")
    assert own_accuracy(tmp_path / "net.pth") is None


def test_the_words() -> None:
    assert str(Stated("best_acc1", 0.97)) == "the file says best_acc1 97.00%"
