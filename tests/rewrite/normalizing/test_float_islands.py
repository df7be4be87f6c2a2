"""float_islands: what training knows as one float function has no grid inside, whatever it is exported as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import calib
import lsq_export
from lsq_export.graph.evaluate import evaluate
from lsq_export.rewrite.fold import Folded, fold
from support.networks import inputs, quick_capture


class Similar(nn.Module):
    """by_hand: the same function in the network's own words, of which training quantizes every one."""

    def __init__(self, by_hand: bool) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.a, self.b, self.by_hand = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), by_hand

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.a(x).flatten(1), self.b(x).flatten(1)
        if not self.by_hand:
            return F.cosine_similarity(a, b)
        return (a / a.norm(dim=1, keepdim=True) * (b / b.norm(dim=1, keepdim=True))).sum(1)


def folded(by_hand: bool) -> Folded:
    model = lsq_export.prepare(Similar(by_hand), lsq_export.QATConfig(weight_bits=8, activation_bits=8))
    calib.initialize(model, [inputs(16, 1)], "minmax")
    return fold(quick_capture(model.eval()), [inputs(16, 1)])


def test_a_similarity_is_one_float_function() -> None:
    """Up to the network's output: against numpy, of the values that its operands have on their grids."""
    found, x = folded(by_hand=False), inputs(8, 3)
    assert [decision.name for decision in found.tensors if decision.kind == "edge"] == []
    seen: dict[str, np.ndarray] = {}
    (output,) = evaluate(found.model.graph, x, on_value=lambda name, value: seen.update({name: value.numpy()}))
    norms = [node for node in found.model.graph if node.op_type == "ReduceL2"]
    a, b = (seen[str(node.inputs[0].name)].astype(np.float64) for node in norms)  # type: ignore[union-attr]
    expected = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    assert np.abs(output.numpy() - expected).max() < 1e-6


def test_its_parts_written_out_have_the_grids_of_training() -> None:
    found = folded(by_hand=True)
    assert {"edges.mul", "edges.truediv", "edges.truediv_1"} <= {decision.name for decision in found.tensors}


class Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mean, self.sum = nn.EmbeddingBag(20, 8, mode="mean"), nn.EmbeddingBag(20, 8, mode="sum")
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.mean(x) + self.sum(x))


@pytest.mark.filterwarnings("ignore:layers that stay float")
def test_bags_of_embeddings_have_the_grids_of_training_alone(tmp_path: Path) -> None:
    """A mean in integers would read a grid that training did not have."""
    x = torch.randint(0, 20, (32, 5), generator=torch.Generator().manual_seed(1))
    model = lsq_export.prepare(Bags(), lsq_export.QATConfig(weight_bits=8, activation_bits=8))
    calib.initialize(model, [x], "minmax")
    bundle = lsq_export.export(model.eval(), x[:1], tmp_path / "out", calibration=[x])
    assert bundle.parity is not None and bundle.parity.ok, bundle.parity
    assert [tensor["name"] for tensor in bundle.manifest["tensors"] if tensor["kind"] == "edge"] == []
    assert not any(layer.histogram for layer in bundle.parity.trained_layers)
