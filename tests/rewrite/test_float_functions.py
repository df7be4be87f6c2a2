"""Functions in float that are flat below zero read accumulators of Linear layers, without a grid of 8 bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import calib
import lsq_export
from calib.quantized import quantized_modules
from lsq_export.graph.read import is_op, producer_of
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.rewrite.folding import edges
from lsq_export.rewrite.normalizing import float_islands
from support import networks
from support.networks import Case, inputs, verified

W8A8: dict[str, Any] = {"weight_bits": 8, "activation_bits": 8, "edges": "calibrated", "first_last_bits": None}
TOKENS, ROWS = (5, 8), (8,)
FUNCTIONS = [nn.GELU(), nn.ELU(), nn.Softplus()]


def made(function: nn.Module, shape: tuple[int, ...], **more: Any) -> tuple[nn.Module, Folded]:
    torch.manual_seed(0)
    first = nn.Linear(8, 8)
    with torch.no_grad():
        first.weight *= 10
        first.bias -= 20.0  # most of a grid would be spent on what the function takes to be zero
    net = nn.Sequential(first, function, nn.Linear(8, 4))
    model = networks.train(Case(lambda: net, {**W8A8, **more}, shape))
    return model, fold(networks.quick_capture(model, shape), [inputs(64, 1, shape)])


def before_function(folded: Folded, function: nn.Module) -> Any:
    name = {"GELU": "Gelu", "ELU": "Elu", "Softplus": "Softplus"}[type(function).__name__]
    (found,) = [node for node in folded.model.graph if is_op(node, name)]
    maker = producer_of(found.inputs[0])
    return producer_of(maker.inputs[0]) if maker is not None and maker.op_type == "Reshape" else maker


@pytest.mark.parametrize("shape", [TOKENS, ROWS])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_they_read_what_the_layer_makes(
    function: nn.Module, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folded = made(function, shape)
    assert is_op(before_function(folded, function), "Gemm")
    parity, files = verified(model, folded, [inputs(32, 2, shape)])
    assert parity.ok
    assert [node.op_type for node in files["qoperator"].graph.node].count("MatMulInteger") == 2  # with the output's
    for module in (edges, float_islands):
        monkeypatch.setattr(module, "is_rectifier", lambda node: False)
    coarse, _ = verified(*made(function, shape), [inputs(32, 2, shape)])
    assert parity.folded_sqnr_db > coarse.folded_sqnr_db + 1


def test_a_trained_grid_stays() -> None:
    _, folded = made(FUNCTIONS[0], ROWS, edges="trained")
    assert is_op(before_function(folded, FUNCTIONS[0]), "DequantizeLinear")


def test_before_a_norm_the_layer_has_its_grid() -> None:
    """A norm makes any rounding before it as large as it likes."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 4))
    model = networks.train(Case(lambda: net, W8A8, ROWS))
    folded = fold(networks.quick_capture(model, ROWS), [inputs(64, 1, ROWS)])
    assert is_op(before_function(folded, FUNCTIONS[0]), "DequantizeLinear")


def test_coarse_biases_are_told_in_steps_of_the_grid_after_the_function() -> None:
    """Inputs of zeros and ones have a scale of one, so that biases are multiples of the weights' steps."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 4))
    x = (inputs(64, 1, ROWS) > 0).float()
    model = lsq_export.prepare(net, lsq_export.QATConfig(**W8A8))
    calib.initialize(model, [x])
    quantized_modules(model)["0.input"].set_grid(1.0)
    folded = fold(networks.quick_capture(model, ROWS), [x])
    first = folded.layers[0]
    assert 0.1 < first.bias_error_steps < 10
    assert verified(model, folded, [x])[0].ok
