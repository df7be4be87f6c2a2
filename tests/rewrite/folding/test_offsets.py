"""offsets: integer zero points, and biases that carry real offsets (E3-E5)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from calib import QuantizationError
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.grids import grid_of
from lsq_export.graph.layers import bias_of, set_bias
from lsq_export.graph.read import array_of, attribute, is_marker, is_op
from lsq_export.rewrite.contract.decisions import Remainder, TensorDecision
from lsq_export.rewrite.folding.offsets import place_offsets
from support.networks import before, difference, find, folded, inputs, operators, set_constant, values

SCALE_ROUNDING = 2.0**-24  # S = s/k as float32


def placed(name: str) -> tuple[ir.Model, dict[str, TensorDecision]]:
    model = before(name, "place_offsets")
    decisions = place_offsets(model)
    assert not any(is_marker(node) for node in model.graph)
    return model, {decision.name: decision for decision in decisions}


def markers(model: ir.Model) -> dict[str, ir.Node]:
    return {attribute(node, "quantizer"): node for node in model.graph if is_marker(node)}


def trained_codes(model: ir.Model, found: dict[str, np.ndarray], quantizer: str) -> np.ndarray:
    """Codes 0 … p of a marker's values."""
    marker = markers(model)[quantizer]
    grid = grid_of(marker).unsigned()
    return np.rint((found[str(marker.outputs[0].name)] - grid.offset) / grid.scale)


@pytest.mark.parametrize(
    "name", ["above", "chain2", "signed", "two_readers", "geometry", "residual3", "preactivation", "unflatten"]
)
def test_codes_are_the_trained_codes_spread_over_the_container(name: str):
    """On the same inputs of each layer: what the quantizer's producer gets is fed from the graph before."""
    was, (now, decisions) = before(name, "place_offsets"), placed(name)
    strided = {d.name: d for d in decisions.values() if d.kind == "activation" and d.remainder is not Remainder.MOVED}
    assert strided
    expected = values(was)
    fed: dict[str, np.ndarray] = {}

    def with_trained_codes(code: str, value: torch.Tensor) -> torch.Tensor | None:
        for decision in strided.values():
            if decision.codes == code:
                q = trained_codes(was, expected, decision.name)
                fed[decision.name] = np.abs(value.numpy() - (decision.stride * q + decision.origin))
                return torch.from_numpy(decision.stride * q + decision.origin)
        return None

    evaluate(now.graph, inputs(6, 2, spread=3.0), on_value=with_trained_codes)
    assert set(fed) == set(strided)
    for quantizer, missed in fed.items():
        steps = missed / strided[quantizer].stride
        assert steps.max() <= 1 and (steps > 0).mean() < 0.002  # the border of a padded producer sees β' instead of β


def test_without_padding_everything_is_exact():
    was, (now, decisions) = before("above", "place_offsets"), placed("above")
    learned = [d for d in decisions.values() if d.kind == "activation" and d.levels < 256]
    assert [(d.remainder, d.carried_by) for d in learned] == [(Remainder.CARRIED, (layer,)) for layer in "024"]
    assert decisions["2.input"].error_steps < -2.9  # real zero is 3 steps below the codes, and no code is left for it
    assert difference(values(was), values(now)) < 300 * SCALE_ROUNDING


def test_a_padded_consumer_is_exact_inside_and_bounded_along_the_border():
    was, (now, decisions) = before("chain2", "place_offsets"), placed("chain2")
    decision, grid = decisions["0.input"], grid_of(markers(was)["3.input"]).unsigned()
    a, b = values(was), values(now)
    # the same inputs
    assert np.array_equal(decision.stride * trained_codes(was, a, "0.input") + decision.origin, b[decision.codes])
    missed = np.abs(b["conv2d"] + grid.offset - a["conv2d"])  # its bias carries -β of the next grid (E3)
    rounding = 100 * SCALE_ROUNDING * np.abs(a["conv2d"]).max()
    assert missed[:, :, 1:-1, 1:-1].max() <= rounding
    assert decision.border / 20 < missed.max() <= decision.border + rounding


@pytest.mark.parametrize("name", ["chain", "chain2", "channel", "geometry", "above_padded", "two_readers"])
def test_decisions_say_what_the_graph_holds(name: str):
    was = before(name, "place_offsets")
    now, decisions = placed(name)
    assert set(decisions) == set(markers(was))
    for quantizer, d in decisions.items():
        grid = grid_of(markers(was)[quantizer])
        reader = next(node for node in now.graph if is_op(node, "DequantizeLinear") and node.inputs[0].name == d.codes)
        assert (float(array_of(reader.inputs[1])), int(array_of(reader.inputs[2]))) == (d.container_scale, d.zero_point)
        assert d.offset_carried == pytest.approx(-d.container_scale * (d.zero_point - d.origin), rel=1e-12, abs=1e-12)
        assert d.levels == grid.qmax - grid.qmin + 1 and d.container_scale == np.float32(d.scale / d.stride)
        if d.kind == "activation":
            assert d.error_steps == pytest.approx((d.offset_carried - d.offset) / d.scale, abs=1e-9)
            assert d.offset == pytest.approx(grid.unsigned().offset) and d.scale == grid.scale
        if d.remainder is Remainder.MOVED:
            assert abs(d.error_steps) <= 0.5 and d.levels == 256


def test_plain_grids_need_no_look_up_and_others_detour_over_zero_point_one():
    now, decisions = placed("chain")
    assert (decisions["8.input"].stride, decisions["8.input"].codes) == (1, "8.input.codes")
    first, steps, second = (
        node for node in now.graph if str(node.outputs[0].name) in ("3.input.codes", "3.input.steps", "3.input.strided")
    )
    d = decisions["3.input"]
    assert [int(array_of(node.inputs[2])) for node in (first, steps, second)] == [0, 1, d.origin + d.stride]
    assert float(array_of(first.inputs[1])) == float(array_of(steps.inputs[1])) == np.float32(d.scale)


@pytest.mark.parametrize(("name", "op"), [("chain", "MaxPool"), ("chain", "Reshape"), ("transposed", "Transpose")])
def test_grids_are_repeated_behind_what_keeps_codes(name: str, op: str):
    now, _ = placed(name)
    mover = find(now, op)[0]
    (quantize,) = mover.outputs[0].consumers()
    source = mover.inputs[0].producer()
    assert quantize.op_type == "QuantizeLinear" and source.op_type == "DequantizeLinear"
    assert list(quantize.inputs[1:]) == list(source.inputs[1:])
    found = values(now)
    # changes nothing
    assert np.array_equal(
        found[str(next(iter(quantize.outputs[0].consumers())).outputs[0].name)], found[str(mover.outputs[0].name)]
    )


def test_behind_an_edge_an_integer_sum_carries_the_offset():
    was, (now, _) = before("two_readers", "place_offsets"), placed("two_readers")
    for quantizer in ("b.input", "c.input"):
        (add,) = (node for node in find(now, "Add") if str(node.outputs[0].name) == f"{quantizer}.shifted")
        shift = add.inputs[1].producer()
        code, scale, zero = (array_of(v).item() for v in shift.inputs)
        assert {code, zero} == {0, 1} and (code - zero) * scale == pytest.approx(
            -grid_of(markers(was)[quantizer]).unsigned().offset, rel=1e-7
        )
    assert operators(now).count("Add") == 4  # with that of the input


def test_a_grid_without_offset_behind_an_edge_needs_no_sum():
    model = before("two_readers", "place_offsets")
    for quantizer in ("b.input", "c.input"):
        set_constant(markers(model)[quantizer].inputs[2], np.array(0.0))
    place_offsets(model)
    assert operators(model).count("Add") == 2


def test_a_clamped_edge_is_clipped_on_its_codes():
    now, decisions = placed("clamped_sum")
    (clip,) = find(now, "Clip")
    d = next(d for d in decisions.values() if d.codes == clip.outputs[0].name)
    low, high = (int(array_of(v)) for v in clip.inputs[1:])
    assert d.levels == high - low + 1 < 256 and array_of(clip.inputs[1]).dtype == np.uint8


@pytest.mark.parametrize("what", ["zero point", "scale", "bias"])
def test_sabotage_shows(what: str):
    was, (now, decisions) = before("above", "place_offsets"), placed("above")
    if what == "bias":
        layer = find(now, "Conv")[1]
        set_bias(layer, now.graph, bias_of(layer) + decisions["4.input"].scale)
    else:
        reader = next(node for node in now.graph if str(node.outputs[0].name) == "2.input.values")
        index, change = (2, 1) if what == "zero point" else (1, float(array_of(reader.inputs[1])))
        set_constant(reader.inputs[index], array_of(reader.inputs[index]) + change)
    assert difference(values(was), values(now)) > 1e-4 > 300 * SCALE_ROUNDING


def test_real_zero_off_the_grid_of_a_padded_layer_is_refused_by_the_quantizer_s_name():
    model = before("above_padded", "place_offsets")
    marker = markers(model)["4.input"]
    set_constant(marker.inputs[2], np.array(300 * float(array_of(marker.inputs[1]))))
    with pytest.raises(
        QuantizationError,
        match=r"^4\.input: real zero is off the grid \(values .*\) and a padded consumer needs it: .* padding=0",
    ):
        place_offsets(model)


def test_a_grid_behind_what_has_no_bias_is_refused():
    """place_edges puts an edge there; without it the pass does not guess."""
    model = before("two_readers", "place_edges")
    with pytest.raises(QuantizationError, match=r"a\.input: nothing before this grid can carry its offset"):
        place_offsets(model)


def test_offsets_on_multiples_of_the_scale_leave_no_remainder():
    for d in folded("integer").tensors:
        assert d.kind == "edge" or abs(d.error_steps) < 1e-6
