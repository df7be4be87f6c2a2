"""integers: weights and biases in their containers, exactly or within the rounding of E6, E7 and E9."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import helper

from calib import QuantizationError
from lsq_export.graph.layers import bias_of, input_scale_of, output_grid_of, set_bias, weight_codes, weight_of
from lsq_export.graph.read import array_of, attribute
from lsq_export.rewrite.contract.decisions import LayerDecision, sums_summary
from lsq_export.rewrite.folding.integers import place_integers
from support.networks import before, difference, find, hand_made, set_constant, values, weight

NEAR = 8.1e-6  # E9: 64 units in the last place of a float32 scale
F = np.float32


def placed(name: str) -> tuple[ir.Model, dict[str, LayerDecision]]:
    model = before(name, "place_integers")
    return model, {decision.name: decision for decision in place_integers(model)}


def layers(model: ir.Model) -> dict[str, ir.Node]:
    return {str(node.name): node for node in find(model, "Conv", "Gemm")}


def stored(node: ir.Node) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(codes, scale, zero point) in their types."""
    codes, scale, zero_point = (array_of(v) for v in weight_of(node).inputs)
    return codes, scale, zero_point


def no_pair_saturates(weights: np.ndarray, largest: int) -> bool:
    """Of each row any two, times any codes: all of them, one by one."""
    for row in weights.reshape(len(weights), -1):
        first, second = np.triu_indices(len(row), 1)
        a, b = row[first], row[second]
        high, low = (limit(a, 0) + limit(b, 0) for limit in (np.maximum, np.minimum))
        if (high * largest > 2**15 - 1).any() or (low * largest < -(2**15)).any():
            return False
    return True


def largest_input(node: ir.Node) -> int:
    """Of the codes that a layer reads."""
    made = node.inputs[0].producer().inputs[0].producer()
    return int(array_of(made.inputs[2])) if made.op_type == "Clip" else 255


@pytest.mark.parametrize(
    "name", ["chain", "chain2", "channel", "negative8", "geometry", "pools", "perceptron8", "residual3"]
)
def test_containers_hold_the_trained_weights_and_the_rounded_bias(name: str):
    was, (now, decisions) = before(name, "place_integers"), placed(name)
    assert set(layers(was)) == set(layers(now)) == set(decisions)
    for layer, node in layers(now).items():
        old, (codes, scale, zero_point), decision = layers(was)[layer], stored(node), decisions[layer]
        trained_codes, trained_scale = weight_codes(old)
        shifted = codes.astype(int) - zero_point.astype(int).reshape(-1, *[1] * (codes.ndim - 1))
        assert np.array_equal(shifted, decision.gain * trained_codes)
        assert np.abs(scale * decision.gain / trained_scale - 1).max() <= NEAR and scale.dtype == F
        # E7
        limit = 127 if node.op_type == "Conv" and codes.shape[1] == 1 < len(codes) == attribute(node, "group") else 64
        if codes.dtype == np.int8:
            assert not zero_point.any() and decision.container == "INT8"
            assert np.abs(shifted).max() <= limit or no_pair_saturates(shifted, largest_input(node))
            assert decision.gain == max(1, limit // np.abs(trained_codes).max())
        else:
            assert decision.container == "UINT8" and codes.dtype == np.uint8
            assert np.abs(shifted).max() > limit and decision.gain == 1
            assert shifted.max() > 127 or not no_pair_saturates(shifted, largest_input(node))
        bias_codes, unit = (array_of(v) for v in node.inputs[2].producer().inputs)
        assert bias_codes.dtype == np.int32 and np.array_equal(unit, F(input_scale_of(node)) * scale)
        assert np.array_equal(bias_codes, np.rint(bias_of(old) / unit.astype(np.float64)))
        step = output_grid_of(node).scale if output_grid_of(node) else None
        assert decision.bias_error_steps == (
            0 if step is None else np.abs(bias_codes * unit.astype(np.float64) - bias_of(old)).max() / step
        )
        rows = np.abs(shifted).reshape(len(codes), -1).sum(1) * 255 + np.abs(bias_codes.astype(int))
        assert decision.accumulator == rows.max() < 2**31 and decision.dead_channels == 0


def test_8_bit_codes_have_the_zero_point_128_or_127_where_signs_were_flipped():
    zeros = np.concatenate([stored(node)[2] for node in layers(placed("negative8")[0]).values()])
    assert set(zeros) == {127, 128}
    codes = [stored(node)[0] for node in layers(placed("negative8")[0]).values()]
    assert any(c.max() == 255 for c in codes) and any(c.min() == 0 for c in codes)


@pytest.mark.parametrize("name", ["chain2", "geometry", "above", "channel"])
def test_the_first_layer_changes_by_the_rounding_of_its_bias(name: str):
    """Its inputs are the same before and after."""
    was, (now, _) = before(name, "place_integers"), placed(name)
    layer, node = next(iter(layers(now).items()))
    output = str(node.outputs[0].name)
    a, b = values(was)[output], values(now)[output]
    unit = input_scale_of(node) * stored(node)[1].astype(np.float64).reshape(-1, 1, 1)
    products = np.abs(a - bias_of(layers(was)[layer]).reshape(-1, 1, 1)).max()
    assert (np.abs(b - a) <= 0.5001 * unit + 2 * NEAR * products).all()
    assert np.abs(b - a).max() > 0


def test_a_channel_without_weights_keeps_its_bias():
    was, (now, decisions) = before("tiny_gamma", "place_integers"), placed("tiny_gamma")
    assert decisions["0"].dead_channels >= 2 and decisions["3"].dead_channels >= 1
    for layer in ("0", "3"):
        node, old = layers(now)[layer], layers(was)[layer]
        bias_codes, unit = (array_of(v).astype(np.float64) for v in node.inputs[2].producer().inputs)
        step = output_grid_of(node).scale
        assert (np.abs(bias_codes * unit - bias_of(old)) <= 0.5001 * unit).all()
        dead = ~np.asarray(stored(node)[0].reshape(8, -1).any(1))
        reach = np.abs(weight_codes(old)[0]).reshape(8, -1).sum(1) * 255 * weight_codes(old)[1] * input_scale_of(old)
        # what was left out moves the output by less than a thousandth of a step
        assert (reach[dead] <= 2**-10 * step).all()
    assert difference(values(was), values(now)) < 0.02  # codes next to ties


@pytest.mark.parametrize("what", ["scale", "zero point", "bias"])
def test_sabotage_shows(what: str):
    was, (now, _) = before("negative8", "place_integers"), placed("negative8")
    node = layers(now)["3"]
    output = str(node.outputs[0].name)
    plain = difference(values(was), values(now), output)
    target = (
        node.inputs[2].producer().inputs[0] if what == "bias" else weight_of(node).inputs[1 if what == "scale" else 2]
    )
    set_constant(
        target, array_of(target) * 2 if what == "scale" else array_of(target) + (1 if what == "zero point" else 100)
    )
    assert difference(values(was), values(now), output) > 5 * plain


def gemm(
    codes: np.ndarray,
    bias: np.ndarray,
    *,
    input_scale: float = 0.5,
    output: tuple[float, int] | None = (0.5, 128),
    scale: float = 0.1,
) -> ir.Model:
    node, constants = weight("fc", codes, scale)
    constants |= {"s": F(input_scale), "z": np.uint8(0), "b": bias.astype(np.float64)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["v"]),
        node,
        helper.make_node("Gemm", ["v", "fc.values", "b"], ["a" if output else "y"], "fc", transB=1),
    ]
    if output:
        constants |= {"t": F(output[0]), "u": np.uint8(output[1])}
        nodes += [
            helper.make_node("QuantizeLinear", ["a", "t", "u"], ["c"]),
            helper.make_node("DequantizeLinear", ["c", "t", "u"], ["y"]),
        ]
    model = hand_made(
        nodes, {k: v for k, v in constants.items() if k != "b"} | {"b": bias.astype(F)}, (1, codes.shape[1])
    )
    set_bias(find(model, "Gemm")[0], model.graph, bias)
    return model


CODES = np.array([[1, -2, 3], [4, 5, -6]])


def test_by_hand():
    model = gemm(CODES, np.array([1.0, -2.0]))
    (decision,) = place_integers(model)
    assert (decision.name, decision.operator, decision.bits, decision.gain, decision.container) == (
        "fc",
        "Gemm",
        4,
        10,
        "INT8",
    )
    (node,) = find(model, "Gemm")
    assert (stored(node)[0] == 10 * CODES).all()
    assert array_of(node.inputs[2].producer().inputs[0]).tolist() == [200, -400]  # in units of 0.5 · 0.1 / 10
    assert decision.scale == pytest.approx((0.01, 0.01), rel=1e-5)
    assert decision.accumulator == max(10 * 6 * 255 + 200, 10 * 15 * 255 + 400)


def test_a_bias_beyond_int32_and_beyond_the_grid_makes_a_constant_channel():
    """1e9 is 2e11 units of 0.005, and the output's grid ends at 63.5: its code is 255, whatever the input."""
    model = gemm(CODES, np.array([1.0, 1e9]))
    was = values(model, torch.full((1, 3), 50.0))["y"]
    (decision,) = place_integers(model)
    assert decision.dead_channels == 1 and decision.coarse_channels == 0 and decision.coarse_steps == 0
    for x in (torch.zeros(1, 3), torch.full((1, 3), 50.0)):
        assert values(model, x)["y"][0, 1] == was[0, 1] == 63.5


def test_a_bias_beyond_int32_lowers_the_gain_or_makes_weights_coarser():
    """Units of 0.5·1e-9 are too fine for 2 and for -2; effects are those of the decision, input by input."""
    trained = gemm(CODES, np.array([2.0, -2.0]), scale=1e-9)
    model = gemm(CODES, np.array([2.0, -2.0]), scale=1e-9)
    (decision,) = place_integers(model)
    assert decision.coarse_channels == 2 and 0 < decision.coarse_steps < 0.01
    x = torch.tensor([[0.0, 127.5, 0.0], [127.5, 0.0, 127.5], [127.5, 127.5, 0.0], [0.0, 0.0, 127.5]])
    moved = np.abs(values(model, x)["a"] - values(trained, x)["a"]).max() / 0.5
    assert decision.coarse_steps * 0.99 < moved + 1e-6 and moved < decision.coarse_steps + decision.bias_error_steps

    lowered = gemm(CODES, np.array([2.0, -2.0]), scale=1e-8)  # 2/(0.5·1e-8) = 4e8, which fits; ten times that does not
    (decision,) = place_integers(lowered)
    (node,) = find(lowered, "Gemm")
    assert (decision.lowered_channels, decision.coarse_channels, decision.gain) == (2, 0, 10)
    assert np.array_equal(stored(node)[0], CODES)


def test_weights_that_are_nothing_beside_their_bias_are_left_out():
    model = gemm(CODES, np.array([1.0, 1e9]), output=None)
    (decision,) = place_integers(model)
    (node,) = find(model, "Gemm")
    bias_codes, unit = (array_of(v).astype(np.float64) for v in node.inputs[2].producer().inputs)
    assert decision.dead_channels == 1 and stored(node)[0].any(1).tolist() == [True, False]
    assert bias_codes * unit == pytest.approx([1.0, 1e9], rel=1e-6)


def test_an_accumulator_beyond_int32_gets_coarser_weights():
    """70,000 codes of -127 sum up to 2.3e9: half of that fits. What it costs is said, and is much."""
    model = gemm(np.full((2, 70_000), -127), np.zeros(2))
    (decision,) = place_integers(model)
    assert decision.accumulator == 255 * 64 * 70_000 < 2**31
    assert decision.coarse_channels == 2 and decision.coarse_steps > 1
    assert sums_summary([decision]) == (
        f"channels with a scale too small beside their bias: coarser weights in 2, which moves outputs by at most "
        f"{decision.coarse_steps:.2g} steps (fc)"
    )


def test_a_scale_that_leaves_float32_is_refused():
    """No float32 is a scale of weights that makes units of a bias of 40 beside an input scale of 1e-45."""
    with pytest.raises(QuantizationError, match="fc: a scale leaves float32"):
        place_integers(gemm(CODES, np.full(2, 40.0), input_scale=1e-45))


def test_multipliers_that_underflow_belong_to_channels_without_weights():
    model = gemm(CODES, np.zeros(2), scale=1e-15, input_scale=1e-15, output=(1e15, 0))
    (decision,) = place_integers(model)
    assert decision.dead_channels == 2 and 0 < decision.coarse_steps < 1e-20


def test_an_input_without_a_grid_is_refused():
    node, constants = weight("fc", CODES)
    model = hand_made([node, helper.make_node("Gemm", ["x", "fc.values"], ["y"], "fc", transB=1)], constants, (1, 3))
    with pytest.raises(QuantizationError, match="fc: nothing put the input of this layer onto a grid"):
        place_integers(model)


def test_an_accumulator_that_is_the_output_has_no_grid():
    model = gemm(CODES, np.array([1.0, -2.0]), output=None)
    (decision,) = place_integers(model)
    assert output_grid_of(find(model, "Gemm")[0]) is None and decision.bias_error_steps == 0
