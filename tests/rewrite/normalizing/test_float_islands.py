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


class Placed(nn.Module):
    """Places are added to what a layer makes, before norms; at the end a mean, and a norm of it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.lift, self.mix, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.places, self.first, self.last = nn.Parameter(torch.randn(1, 5, 8)), nn.LayerNorm(8), nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.lift(x) + self.places
        y = y + self.mix(self.first(y))
        return self.head(self.last(y.mean(1)))


def test_places_before_a_norm_are_added_as_in_training() -> None:
    """In float: no grid that training did not have."""
    x = torch.randn(16, 5, 6, generator=torch.Generator().manual_seed(1))
    model = lsq_export.prepare(Placed(), lsq_export.QATConfig(weight_bits=4, activation_bits=4))
    calib.initialize(model, [x], "minmax")
    found = fold(quick_capture(model.eval(), (5, 6)), [x])
    assert [decision.name for decision in found.tensors if decision.kind == "edge"] == []


class OverChannels(nn.Module):
    """The norm of images of ConvNeXt and NAFNet, in its own words, of which training quantizes the last."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.weight, self.bias = nn.Parameter(torch.rand(8) + 0.5), nn.Parameter(torch.randn(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x)
        y = y - y.mean(1, keepdim=True)
        y = y / torch.sqrt(y.pow(2).mean(1, keepdim=True) + 1e-6)
        return self.b(self.weight[:, None, None] * y + self.bias[:, None, None])


def test_a_norm_over_channels_has_the_grids_of_training() -> None:
    model = lsq_export.prepare(OverChannels(), lsq_export.QATConfig(weight_bits=8, activation_bits=8))
    calib.initialize(model, [inputs(16, 1)], "minmax")
    found = fold(quick_capture(model.eval()), [inputs(16, 1)])
    assert [decision.name for decision in found.tensors if decision.kind == "edge"] == []
