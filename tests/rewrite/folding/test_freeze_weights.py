"""weights: markers of weights become their codes, to the last tie; layers get their names."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

import lsq_export
from calib import QuantizationError
from lsq_export.graph.layers import bias_of, set_bias, weight_codes, weight_of
from lsq_export.graph.notes import BITS
from lsq_export.graph.read import array_of, attribute, is_marker
from lsq_export.rewrite.contract.conditions import FROZEN_WEIGHTS, TRAINED_WEIGHTS
from lsq_export.rewrite.folding.average_pools import average_pools_to_convolutions
from lsq_export.rewrite.folding.freeze_weights import freeze_weights
from support import networks
from support.networks import before, difference, find, hand_made, set_constant, trained, values

F = np.float32


def frozen(name: str) -> ir.Model:
    model = before(name, "freeze_weights")
    freeze_weights(model)
    return model


def layers(model: ir.Model) -> dict[str, ir.Node]:
    return {str(node.name): node for node in find(model, "Conv", "Gemm")}


@pytest.mark.parametrize("name", ["chain", "channel", "negative8"])
def test_codes_are_the_trained_ones(name: str):
    module, model = trained(name), frozen(name)
    known = lsq_export.quantizers(module)
    for layer, node in layers(model).items():
        quantizer, trained_layer = known[f"{layer}.weight"], module.get_submodule(layer)
        w = trained_layer.parametrizations.weight.original.detach().numpy()
        s = np.broadcast_to(quantizer.scale.detach().numpy(), len(w)).astype(F)
        # float32, as training
        expected = np.rint(w / s.reshape(-1, *[1] * (w.ndim - 1))).clip(quantizer.qmin, quantizer.qmax)
        codes, scale = weight_codes(node)
        assert np.array_equal(codes, expected) and np.array_equal(scale, s)
        assert array_of(weight_of(node).inputs[0]).dtype == np.int8 and attribute(weight_of(node), "axis") == 0
        assert BITS.read(weight_of(node).outputs[0]) == quantizer.bits
        assert np.array_equal(bias_of(node), trained_layer.bias.detach().numpy().astype(np.float64))
    assert name != "negative8" or any((weight_codes(node)[0] == -128).any() for node in layers(model).values())


@pytest.mark.parametrize("name", ["channel", "geometry", "perceptron"])
def test_the_network_stays_as_it_is(name: str):
    assert difference(values(before(name, "freeze_weights")), values(frozen(name))) < 1e-9


def test_markers_of_activations_stay():
    was, now = before("chain", "freeze_weights"), frozen("chain")
    kinds = [[attribute(node, "kind") for node in model.graph if is_marker(node)] for model in (was, now)]
    assert sorted(kinds[0]) == ["activation"] * 3 + ["weight"] * 3 and kinds[1] == ["activation"] * 3


def test_layers_are_called_as_in_the_model_and_a_second_use_gets_a_number():
    assert list(layers(frozen("residual"))) == ["stem", "a", "b", "c", "down", "fc"]
    model = networks.before("twice", "average_pools")
    average_pools_to_convolutions(model)  # any pass: it makes names unique
    assert sorted(layers(model)) == ["a", "b", "b_1", "c"]
    one, two = (weight_codes(layers(model)[name]) for name in ("b", "b_1"))
    assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])


@pytest.mark.parametrize("what", ["code", "scale"])
def test_sabotage_shows(what: str):
    model = frozen("channel")
    dequantize = weight_of(find(model, "Conv")[1])
    if what == "code":
        codes = array_of(dequantize.inputs[0]).copy()
        codes.ravel()[np.flatnonzero(codes == 0)[0]] = 1
        set_constant(dequantize.inputs[0], codes)
    else:
        set_constant(dequantize.inputs[1], array_of(dequantize.inputs[1]) * 2)
    assert difference(values(before("channel", "freeze_weights")), values(model)) > 1e-3


def test_a_weight_that_is_not_finite_is_refused():
    model = before("chain", "freeze_weights")
    marker = next(node for node in model.graph if is_marker(node) and attribute(node, "quantizer") == "3.weight")
    broken = array_of(marker.inputs[0]).copy()
    broken.ravel()[:2] = np.nan, np.inf
    set_constant(marker.inputs[0], broken)
    with pytest.raises(QuantizationError, match=r"3\.weight: the weight has 2 non-finite values"):
        freeze_weights(model)


@pytest.mark.parametrize(("op", "shape", "x"), [("Conv", (2, 3, 1, 1), (1, 3, 4, 4)), ("Gemm", (2, 3), (1, 3))])
def test_a_weight_that_nobody_trained_is_left_to_a_later_pass(op: str, shape: tuple[int, ...], x: tuple[int, ...]):
    node = helper.make_node(op, ["x", "w"], ["y"], "block.product", **({"transB": 1} if op == "Gemm" else {}))
    model = hand_made([node], {"w": np.ones(shape, F)}, x)
    freeze_weights(model)
    assert [(n.name, n.inputs[1].name) for n in model.graph] == [("block.product", "w")]
    TRAINED_WEIGHTS.check(model.graph, "here")
    with pytest.raises(QuantizationError, match="the weights of all layers are codes"):
        FROZEN_WEIGHTS.check(model.graph, "here")


def test_a_bias_can_be_given_to_a_layer_that_has_none():
    node, constants = networks.weight("w", np.ones((2, 3, 1, 1)))
    model = hand_made([node, helper.make_node("Conv", ["x", "w.values"], ["y"], "w")], constants, (1, 3, 4, 4))
    (conv,) = find(model, "Conv")
    assert bias_of(conv).tolist() == [0, 0]
    set_bias(conv, model.graph, np.array([1.5, -2.5]))
    assert bias_of(conv).tolist() == [1.5, -2.5]
