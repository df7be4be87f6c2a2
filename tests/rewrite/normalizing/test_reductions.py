"""reductions: over any axes, they become pools that compute the same."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import helper
from torch import nn

import calib
import lsq_export
from lsq_export.graph.evaluate import evaluate
from lsq_export.rewrite.fold import fold
from lsq_export.rewrite.normalizing.normalize import normalize
from support.forms import exact_form
from support.networks import Wired, hand_made, inputs, operators, quick_capture

SIZES = (2, 4, 3, 5, 2)
POOLS = {"MaxPool", "AveragePool", "GlobalAveragePool"}
ORACLES = {"ReduceMean": np.mean, "ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min}
ALL_AXES = [axes for rank in range(2, 6) for n in range(1, rank) for axes in combinations(range(1, rank), n)]
RANKS = [rank for rank in range(2, 6) for n in range(1, rank) for _ in combinations(range(1, rank), n)]


@pytest.mark.parametrize("operator", ORACLES)
def test_over_all_axes(operator: str) -> None:
    """Of tensors of 2 to 5 axes, all choices of axes, from the front and from behind; against numpy."""
    for number, (axes, rank) in enumerate(zip(ALL_AXES, RANKS, strict=True)):
        keep, signed = bool(number % 2), [axis - rank if number % 3 else axis for axis in axes]
        x = np.random.default_rng(number).standard_normal(SIZES[:rank]).astype(np.float32)
        node = helper.make_node(operator, ["x", "axes"], ["y"], "reduced", keepdims=int(keep))
        model = hand_made([node], {"axes": np.array(signed)}, ("batch", *SIZES[1:rank]))
        normalize(model)
        assert operator not in operators(model) and POOLS & set(operators(model))
        found, expected = evaluate(model.graph, x)[0].numpy(), ORACLES[operator](x, axis=axes, keepdims=keep)
        assert found.shape == expected.shape and np.abs(found - expected).max() < 1e-5, (axes, rank)
        assert model.graph.outputs[0].name == "y"


def test_pixels_need_no_reshape() -> None:
    for axes, expected in (([2], ["AveragePool"]), ([3], ["AveragePool"]), ([2, 3], ["GlobalAveragePool"])):
        node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], "reduced")
        model = hand_made([node], {"axes": np.array(axes)}, (2, 3, 4, 5))
        normalize(model)
        assert operators(model) == expected


def test_shapes_are_known_afterwards() -> None:
    node = helper.make_node("ReduceMax", ["x", "axes"], ["y"], "reduced", keepdims=0)
    model = hand_made([node], {"axes": np.array([1, 3])}, (2, 3, 4, 5))
    normalize(model)
    x = np.zeros((2, 3, 4, 5), np.float32)
    seen: dict[str, tuple[int, ...]] = {}
    evaluate(model.graph, x, on_value=lambda name, value: seen.update({name: tuple(value.shape)}))
    for made in model.graph:
        (value,) = made.outputs
        assert isinstance(value.shape, ir.Shape) and tuple(value.shape) == seen[str(value.name)]


def between(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        y = function(torch.zeros(1, 4, 9, 9))
        first, last = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(y.numel(), 5)
        return Wired(lambda s, x: s.b(function(s.a(x)).flatten(1)), a=first, b=last)

    return build


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda x: x.flatten(2).transpose(1, 2).mean(1), "QLinearConv"),  # over tokens
        (lambda x: torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1), "QLinearConcat"),
        (lambda x: x.sum((1, 3)), "Transpose"),
        (lambda x: x.amin((2, 3)), "MaxPool"),
        (lambda x: x.mean((1, 2, 3), keepdim=True) + x, "QLinearGlobalAveragePool"),
    ],
    ids=["tokens", "channels", "sum", "minimum", "everything"],
)
def test_end_to_end(function: Callable[[torch.Tensor], torch.Tensor], operator: str) -> None:
    assert operator in exact_form(between(function))


class Sums(nn.Module):
    """Convolutions in one tensor, whose parts are summed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(torch.stack([self.a(x), self.b(x)], 1).sum(1))
        return y


def test_a_sum_with_a_trained_grid_gets_no_other_one() -> None:
    torch.manual_seed(0)
    model = lsq_export.prepare(Sums(), lsq_export.QATConfig(weight_bits=8, activation_bits=8))
    calib.initialize(model, [inputs(16, 1)], "minmax")
    found = fold(quick_capture(model.eval()), [inputs(16, 1)])
    assert {decision.name for decision in found.tensors if decision.kind == "edge"} == set()
