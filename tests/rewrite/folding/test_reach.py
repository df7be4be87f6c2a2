"""reach: no value lies outside, and for functions of one tensor of codes the ends are values that occur."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F

from lsq_export.graph.read import is_op
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.rewrite.folding.reach import EVERYWHERE, reach
from support.networks import ZOO, Case, Conv, Wired, copy, folded, inputs, quick_capture, train, values

reach_of = reach  # also where a test puts another one in its place

FUNCTIONS = {
    "silu": F.silu,
    "hardswish": F.hardswish,
    "square": lambda x: x * x,
    "gate": lambda x: x * torch.sigmoid(x.mean((2, 3), True)),
    "leaky": lambda x: F.leaky_relu(x, -0.5),
    "sum": lambda x: F.relu(x) + F.silu(x),
}


def between(function: Any) -> Folded:
    """conv, function, conv, folded."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        return s.b(function(s.a(x)))

    config = {"weight_bits": 4, "activation_bits": 4, "first_last_bits": None}
    case = Case(lambda: Wired(forward, a=Conv(3, 6, 3), b=Conv(6, 4, 1)), config)
    return fold(quick_capture(train(case)), [inputs(16, 1)])


def outside(model: ir.Model, spread: float) -> list[str]:
    """Tensors with values beyond their reach."""
    found = values(model, inputs(8, 5, tuple(model.graph.inputs[0].shape)[1:], spread=spread))
    known = {v.name: reach(v) for node in model.graph for v in node.outputs}
    return [
        name
        for name, value in found.items()
        if name in known and not known[name][0] <= value.min() <= value.max() <= known[name][1]
    ]


@pytest.mark.parametrize("name", ["residual3", "concat", "pools", "clamps", "two_readers", "twice", "perceptron"])
def test_no_value_of_a_network_lies_outside(name: str):
    assert name in ZOO
    model = copy(folded(name).model)
    assert [outside(model, spread) for spread in (0.1, 2.0, 50.0)] == [[]] * 3


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_value_of_a_function_lies_outside(name: str):
    model = between(FUNCTIONS[name]).model
    assert [outside(model, spread) for spread in (0.1, 2.0, 50.0)] == [[]] * 3


def test_a_reach_that_says_too_little_is_seen(monkeypatch: pytest.MonkeyPatch):
    """Sabotage: with half of every range, values lie outside."""
    monkeypatch.setitem(globals(), "reach", lambda value: tuple(end / 2 for end in reach_of(value)))
    assert outside(between(F.silu).model, 50.0)


def product_of(model: ir.Model, op_type: str = "Mul") -> ir.Value:
    return next(node for node in model.graph if is_op(node, op_type)).outputs[0]


def test_a_silu_ends_above_minus_0_3_however_far_its_input_reaches():
    product = product_of(between(F.silu).model)
    low, high = reach(product)
    assert -0.3 < low < -0.27 < 1 < high
    codes = [x.producer() for x in product.producer().inputs]
    assert reach(codes[0].outputs[0])[0] < -1  # the ends of x and of its sigmoid alone would say so


def test_ends_are_reached_by_functions_of_one_tensor():
    """On an image of every code they occur."""
    for name in ("silu", "square", "leaky"):
        model = between(FUNCTIONS[name]).model
        product = product_of(model, "LeakyRelu" if name == "leaky" else "Mul")
        found = values(model, inputs(64, 5, spread=30.0))[str(product.name)]
        assert (found.min(), found.max()) == pytest.approx(reach(product), rel=0.02, abs=0.02), name


def test_convolutions_and_images_reach_everywhere():
    model = between(F.silu).model
    conv = next(node for node in model.graph if is_op(node, "Conv"))
    assert reach(conv.outputs[0]) == reach(model.graph.inputs[0]) == reach(None) == EVERYWHERE


def test_it_takes_no_longer_in_deep_networks():
    """Sums of sums, two readers each: every value is looked at once."""

    def doubled(x: torch.Tensor) -> torch.Tensor:
        for _ in range(24):
            x = x + F.relu(x)
        return x

    model = between(doubled).model
    last = [node for node in model.graph if is_op(node, "Add")][-1].outputs[0]
    low, high = reach(last)
    assert np.isfinite([low, high]).all() and low < high
