"""Scalings, constants and the grids that only operators ask for: numbers, and what must not fire."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import helper

from calib import QuantizationError
from calib.rounding.ties import exact_product_scale, tie_distance
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.read import array_of
from lsq_export.rewrite.folding.constant_grids import constants_to_grids
from lsq_export.rewrite.folding.constants import constants_to_batch_norms
from lsq_export.rewrite.folding.scaling import factor_of, follow, relabel
from lsq_export.rewrite.folding.softmax import reciprocal_scale
from support.networks import find, hand_made, inputs

X = ("batch", 4, 6, 5)
F = np.float32


def place_constants(model: ir.Model) -> None:
    """Both passes, in the order of the fold."""
    constants_to_batch_norms(model)
    constants_to_grids(model)


def node(op: str, *names: str, output: str = "y", **attributes: object):
    return helper.make_node(op, list(names), [output], f"layer.{op}", **attributes)


@pytest.mark.parametrize(
    ("value", "factor"),
    [
        (F(0.5), 0.5),
        (np.array([2], F), 2.0),
        (F(-1), None),
        (F(0), None),
        (F(np.inf), None),
        (np.ones((4, 1, 1), F), None),
    ],
)
def test_only_one_positive_number_relabels(value: np.ndarray, factor: float | None):
    for order in ("xc", "cx"):
        model = hand_made([node("Mul", *order)], {"c": value}, X)
        assert factor_of(model.graph[0]) == factor
    assert factor_of(hand_made([node("Add", "x", "c")], {"c": F(2)}, X).graph[0]) is None


def test_relabeled_grids_follow_a_scale_that_moves():
    constants = {"s": F(0.1), "z": np.uint8(7), "two": F(2), "three": F(3)}
    nodes = [
        node("QuantizeLinear", "x", "s", "z", output="q"),
        node("DequantizeLinear", "q", "s", "z", output="v"),
        node("Mul", "v", "two", output="a"),
        node("Mul", "a", "three"),
    ]
    model = hand_made(nodes, constants, X)
    expected = evaluate(model.graph, inputs(3, 1, (4, 6, 5)))[0]
    for mul in find(model, "Mul"):
        relabel(model.graph, mul)
    assert not find(model, "Mul")
    found = evaluate(model.graph, inputs(3, 1, (4, 6, 5)))[0]
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()
    quantize = find(model, "QuantizeLinear")[0]
    scale = quantize.inputs[1]
    last = model.graph.outputs[0].producer()
    assert float(array_of(last.inputs[1])) == pytest.approx(0.6, rel=1e-6)
    scale.const_value = ir.tensor(np.array(0.2, F), name=scale.name)
    follow(model.graph, scale)
    assert float(array_of(last.inputs[1])) == pytest.approx(1.2, rel=1e-6)


CONSTANTS: dict[str, tuple[str, np.ndarray, list[str]]] = {
    "number": ("Add", F(0.3), ["DequantizeLinear", "Add"]),
    "negative factor": ("Mul", F(-0.3), ["DequantizeLinear", "Mul"]),
    "positive factor": ("Mul", F(0.3), ["Mul"]),
    "a channel": ("Mul", np.array([1, -2, 0, 3], F).reshape(4, 1, 1), ["BatchNormalization"]),
    "a column": ("Add", np.linspace(-1, 1, 5, dtype=F), ["DequantizeLinear", "Add"]),
    "nothing": ("Add", F(0), ["DequantizeLinear", "Add"]),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_find_a_place(name: str):
    op, value, expected = CONSTANTS[name]
    model = hand_made([node(op, "x", "c")], {"c": value}, X)
    x = inputs(3, 1, (4, 6, 5))
    before = evaluate(model.graph, x)[0]
    place_constants(model)
    assert [n.op_type for n in model.graph] == expected
    half_step = 0.5 / 255 * float(np.ptp(value)) if name == "a column" else 0.0
    assert (evaluate(model.graph, x)[0] - before).abs().max() <= half_step + 1e-6


def test_a_constant_that_is_not_finite_is_refused():
    with pytest.raises(QuantizationError, match=r"layer.Add: the constant of this Add is not finite"):
        place_constants(hand_made([node("Add", "x", "c")], {"c": np.full(5, np.nan, F)}, X))


def test_the_scale_of_a_softmax_is_one_that_the_kernel_inverts():
    for scale in np.random.default_rng(0).uniform(1 / 3000, 0.02, 300):
        found = F(reciprocal_scale(float(scale)))
        n = np.floor(F(1) / found)
        assert found == F(1) / n and abs(float(found) * float(n) - 1) < 1e-7
        assert float(found) >= scale * (1 - 1e-5) and (n >= 1 / scale - 3 or n >= 0.97 / scale)
    readers = [2 / 128]  # every other code of n = 128 lies on a tie of this grid
    clear = reciprocal_scale(1 / 128, readers)
    assert (
        clear != reciprocal_scale(1 / 128) == 1 / 128
        and tie_distance(np.arange(256) * clear / readers[0], -255, 255) >= 5e-5
    )


def test_the_scale_of_a_product_has_an_exact_multiplier():
    """M·S = a·b, so that E9 rounds accumulators as real numbers do;

    as far as rounding M can make up for rounding a·b.
    """
    rng, errors = np.random.default_rng(1), []
    for a, b, y in rng.uniform(0.001, 0.1, (50, 3)):
        a, b, y = (float(F(v)) for v in (a, b, y))
        scale = exact_product_scale(a, b, y, -128, 127)
        multiplier = F(F(a) * F(b)) / F(scale)
        assert F(scale) == scale and abs(scale / y - 1) < 2.1e-3
        errors.append(abs(float(multiplier) * scale / (a * b) - 1))
    assert max(errors) < 2.0**-24 and np.mean(np.array(errors) < 2.0**-29) > 0.7


def test_torch_agrees_about_tanh():
    """2σ(2x) - 1, of which only grids are left."""
    x = torch.linspace(-4, 4, 1000, dtype=torch.float64)
    assert (2 * torch.sigmoid(2 * x) - 1 - torch.tanh(x)).abs().max() < 1e-15


def test_a_scale_of_products_moves_by_hundredths_of_a_thousandth() -> None:
    """Also where no scale has an exact multiplier, as in the first case."""
    rng = np.random.default_rng(0)
    cases = [(0.0013036748860031366, 0.015028156340122223, 0.00587229011580348), *rng.uniform(1e-3, 0.1, (200, 3))]
    moves = []
    for a, b, y in np.float32(cases).astype(float):
        scale = exact_product_scale(a, b, y, -128, 127)
        moves.append(abs(scale / y - 1))
        multiplier = np.float32(np.float32(np.float32(a) * np.float32(b)) / np.float32(scale))
        assert (
            abs(float(multiplier) * scale / (a * b) - 1) < 5e-8
        )  # two roundings of 6e-8 each, that make up for another
    assert max(moves) < 1e-5
