"""check: what will be integer, float or without data, with module and line, before anything is trained."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import calib
import lsq_export
from lsq_export.qat.prepare_model import quantizers


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.unused = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.a(x))
        y = torch.cumsum(y, 1)
        return self.b(y)


LINE = "test_outlook.py:25"  # of the cumsum


@pytest.mark.parametrize("prepared", [False, True])
def test_each_line_names_a_module_and_a_line(prepared: bool) -> None:
    net: nn.Module = Net()
    if prepared:
        net = lsq_export.prepare(net, lsq_export.QATConfig(edges="calibrated"))
    found = lsq_export.check(net, torch.randn(2, 3, 8, 8))
    assert [entry.name for entry in found.of_kind("integer")] == ["a", "b"]
    assert [entry.name for entry in found.of_kind("no data")] == ["unused"]
    (island,) = found.of_kind("float")
    assert (island.operator, island.source, island.why) == ("CumSum", LINE, "no integer form")
    assert all(entry.source.startswith("test_outlook.py:") for entry in found.of_kind("integer"))
    assert [(output.name, output.shape, output.kind) for output in found.outputs] == [("output", (2, 6, 6), "float")]
    assert found.table.title == "2 layers become integer, 1 operator stays float, 1 layer sees no data"


class Forms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.sequence = nn.ConvTranspose2d(3, 4, 2, stride=2), nn.Conv1d(4, 4, 3)
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.sequence(torch.relu(self.up(x)).flatten(2))).transpose(1, 2)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def test_what_export_makes_integer_is_integer(tmp_path: Path) -> None:
    """Forms that passes before the fold write as others: check runs all of them, as export does."""
    torch.manual_seed(0)
    net, x = Forms(), torch.randn(4, 3, 4, 4)
    found = lsq_export.check(net, x)
    assert {(entry.operator, entry.why) for entry in found.of_kind("float")} == {("Softmax", "no integer form")}
    integer = {entry.name.split(".")[0] for entry in found.of_kind("integer")}
    assert integer == {"up", "sequence", "attention", "head"}
    assert all(entry.source.startswith("test_outlook.py:") for entry in found.entries)
    model = lsq_export.prepare(net, lsq_export.QATConfig(edges="calibrated"))
    calib.initialize(model, [x])
    bundle = lsq_export.export(model.eval(), x, tmp_path / "bundle", calibration=[x])
    islands = json.loads((bundle.directory / "manifest.json").read_text())["islands"]
    assert {island["operator"] for island in islands} == {"Softmax"}


def test_nothing_of_the_model_is_changed() -> None:
    model = lsq_export.prepare(Net(), lsq_export.QATConfig(edges="calibrated"))
    lsq_export.check(model, torch.randn(2, 3, 8, 8))
    assert not any(bool(quantizer.initialized) for quantizer in quantizers(model).values())


def test_an_example_of_zeros_is_enough() -> None:
    """Only its shape matters: nothing is calibrated on it."""
    found = lsq_export.check(Net(), torch.zeros(1, 3, 8, 8))
    assert [entry.name for entry in found.of_kind("integer")] == ["a", "b"]
    assert [entry.name for entry in found.of_kind("no data")] == ["unused"]


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 2)
        self.token, self.places = nn.Parameter(torch.ones(1, 1, 8)), nn.Parameter(torch.ones(1, 5, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head(x[:, 0])


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_class_tokens_and_positions_become_integer(batch: int) -> None:
    assert not lsq_export.check(Tokens(), torch.randn(batch, 3, 8, 8)).of_kind("float")


def test_the_text_shows_what_does_not_become_integer() -> None:
    text = repr(lsq_export.check(Net(), torch.zeros(1, 3, 8, 8)))
    lines = text.splitlines()
    assert lines[0] == "2 layers become integer, 1 operator stays float, 1 layer sees no data"
    assert [line.split()[0] for line in lines[2:4]] == ["CumSum", "unused"]
    assert lines[4:] == ["integer: a, b", "output output: 2 x 6 x 6 a sample (float)"]


def test_memory_is_collected_again_afterwards_also_after_an_error() -> None:
    before = gc.get_threshold()
    lsq_export.check(Net(), torch.zeros(1, 3, 8, 8))
    assert gc.get_threshold() == before
    with pytest.raises(lsq_export.QuantizationError):
        lsq_export.check(Net(), torch.zeros(1, 5, 8, 8))
    assert gc.get_threshold() == before
