"""batch_norm: it goes into the layer in front, whose codes change their signs at most (E8)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import helper

from calib import QuantizationError
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.layers import bias_of, set_bias, weight_codes, weight_of
from lsq_export.graph.notes import BITS
from lsq_export.graph.read import array_of, attribute
from lsq_export.rewrite.folding.batch_norm import fold_batch_norms
from support.networks import before, difference, find, hand_made, operators, set_constant, values, weight

SCALE_ROUNDING = 2.0**-24  # s·|γ|/σ as float32


def folded(name: str) -> ir.Model:
    model = before(name, "fold_batch_norms")
    fold_batch_norms(model)
    return model


@pytest.mark.parametrize(
    "name", ["chain", "channel", "negative8", "concat", "preactivation", "perceptron", "tiny_gamma"]
)
def test_a_captured_network_stays_as_it_is(name: str):
    was, now = before(name, "fold_batch_norms"), folded(name)
    assert "BatchNormalization" in operators(was) and "BatchNormalization" not in operators(now)
    # some layers deep, and no quantizer flips a tie on these inputs
    assert difference(values(was), values(now)) < 50 * SCALE_ROUNDING


def test_codes_change_their_signs_only():
    was, now = (find(model, "Conv") for model in (before("negative8", "fold_batch_norms"), folded("negative8")))
    norms = find(before("negative8", "fold_batch_norms"), "BatchNormalization")
    for old, new, norm in zip(was, now, norms, strict=True):
        gamma = array_of(norm.inputs[1])
        codes, expected = weight_codes(new)[0], weight_codes(old)[0] * np.sign(gamma).astype(int).reshape(-1, 1, 1, 1)
        assert np.array_equal(codes, expected) and (gamma < 0).any()
    assert any((weight_codes(node)[0] == 128).any() for node in now)  # E8: -128 in a channel with γ < 0


def test_gamma_zero_leaves_no_codes_and_a_positive_scale():
    first, second, _ = find(folded("tiny_gamma"), "Conv")
    codes, scale = weight_codes(first)
    assert not codes[0].any() and codes[1:].any() and scale[0] > 0
    assert not weight_codes(second)[0][1].any() and weight_codes(second)[1][1] > 0


@pytest.mark.parametrize(("name", "layer"), [("preactivation", "n2"), ("concat", "n"), ("perceptron", "6")])
def test_one_that_stands_alone_gets_a_layer_of_weight_one(name: str, layer: str):
    was, now = before(name, "fold_batch_norms"), folded(name)
    # n1's conv has a second reader: the sum
    assert len(find(now, "Conv")) == len(find(was, "Conv")) + 1 + (name == "preactivation")
    found = next(node for node in find(now, "Conv") if str(node.name).startswith(f"{layer}.BatchNormalization"))
    codes, _ = weight_codes(found)
    assert set(np.unique(codes)) <= {-1, 1} and codes.shape[1:] == (1, 1, 1) and attribute(found, "group") == len(codes)
    assert BITS.read(weight_of(found).outputs[0]) == 2
    # [N, C] <-> [N, C, 1, 1]
    assert operators(now).count("Reshape") == operators(was).count("Reshape") + 2 * (name == "perceptron")


NORM = {"g": [1.5, -0.5], "b": [0.1, 0.2], "m": [0.3, -0.3], "v": [0.5, 2.0]}


def norm_of(shape: tuple[int | str, ...], **changed: list[float]) -> ir.Model:
    node, constants = weight("w", np.array([[1, 2, 3], [-4, 5, -6]]).reshape(2, 3, *[1] * (len(shape) - 2)))
    linear = (
        helper.make_node("Conv", ["x", "w.values"], ["a"], "w")
        if len(shape) == 4
        else helper.make_node("Gemm", ["x", "w.values"], ["a"], "w", transB=1)
    )
    norm = helper.make_node("BatchNormalization", ["a", "g", "b", "m", "v"], ["y"], "norm", epsilon=0.01)
    parameters = {name: np.array(value, np.float32) for name, value in {**NORM, **changed}.items()}
    return hand_made([node, linear, norm], {**constants, **parameters}, shape)


@pytest.mark.parametrize("shape", [("batch", 3, 4, 4), ("batch", 3)])
def test_the_algebra_by_hand(shape: tuple[int | str, ...]):
    was, now = norm_of(shape), norm_of(shape)
    fold_batch_norms(now)
    factor = np.array([1.5, -0.5]) / np.sqrt(np.array([0.5, 2.0]) + 0.01)
    (layer,) = find(now, "Conv", "Gemm")
    assert np.allclose(weight_codes(layer)[1], 0.1 * np.abs(factor), rtol=1e-6, atol=0)
    assert np.allclose(bias_of(layer), np.array([-0.3, 0.3]) * factor + [0.1, 0.2], rtol=1e-6, atol=0)
    x = torch.randn(5, *shape[1:], generator=torch.Generator().manual_seed(0)) * 3
    assert (evaluate(was.graph, x)[0] - evaluate(now.graph, x)[0]).abs().max() < 1e-5
    assert now.graph.outputs[0].name == "y"


@pytest.mark.parametrize("what", ["scale", "bias", "sign"])
def test_sabotage_shows(what: str):
    model = folded("channel")
    layer = find(model, "Conv")[0]
    dequantize = weight_of(layer)
    if what == "bias":
        set_bias(layer, model.graph, bias_of(layer) + 1)
    else:
        index, factor = (1, 2) if what == "scale" else (0, -1)
        set_constant(dequantize.inputs[index], array_of(dequantize.inputs[index]) * factor)
    assert difference(values(before("channel", "fold_batch_norms")), values(model)) > 1e-3


@pytest.mark.parametrize(
    "changed", [{"v": [-1.0, 1.0]}, {"v": [np.nan, 1.0]}, {"g": [np.inf, 1.0]}, {"m": [np.nan, 1.0]}]
)
def test_statistics_that_are_none_are_refused(changed: dict[str, list[float]]):
    with pytest.raises(QuantizationError, match="norm: the batch norm's weights or running statistics are not finite"):
        fold_batch_norms(norm_of(("batch", 3, 4, 4), **changed))


def test_a_tensor_of_another_rank_is_refused():
    norm = helper.make_node("BatchNormalization", ["x", "g", "b", "m", "v"], ["y"], "norm")
    with pytest.raises(QuantizationError, match="norm: a batch norm on a tensor of rank 3"):
        fold_batch_norms(
            hand_made([norm], {name: np.array(value, np.float32) for name, value in NORM.items()}, (1, 2, 5))
        )


def test_computed_parameters_are_refused():
    relu = helper.make_node("Relu", ["g"], ["positive"])
    norm = helper.make_node("BatchNormalization", ["x", "positive", "b", "m", "v"], ["y"], "norm")
    with pytest.raises(QuantizationError, match="norm: batch norm: this input must be a constant"):
        fold_batch_norms(
            hand_made([relu, norm], {name: np.array(value, np.float32) for name, value in NORM.items()}, (1, 2, 4, 4))
        )
