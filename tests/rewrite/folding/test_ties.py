"""ties: scales of sums move by some millionths, and with them what the manifest says; nothing else moves."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from calib.rounding.candidates import CANDIDATES, MARGIN
from calib.rounding.ties import STRIDE, clear_scale, tie_distance
from lsq_export.graph.read import array_of
from lsq_export.integer import table
from lsq_export.rewrite.contract.decisions import TensorDecision
from lsq_export.rewrite.folding.offsets import place_offsets
from lsq_export.rewrite.folding.tie_values import LOGISTIC_ERROR, logistic_margin
from lsq_export.rewrite.folding.ties import clear_ties
from lsq_export.verification.runtime import Session
from support import networks
from support.networks import before, difference, find, values

CODES = np.arange(256)
LARGEST = CANDIDATES / 2 * STRIDE * 1.01


def both(name: str) -> tuple[ir.Model, ir.Model, list[TensorDecision], list[TensorDecision]]:
    """(graph before, graph after, decisions before, decisions after)."""
    was, now = before(name, "place_offsets"), before(name, "place_offsets")
    place_offsets(was)
    decisions = place_offsets(now)
    return was, now, decisions, clear_ties(now, decisions)


def grid(node: ir.Node) -> tuple[float, int]:
    scale, zero_point = (array_of(v).item() for v in node.inputs[1:3])
    return scale, zero_point


def sums(node: ir.Node) -> np.ndarray:
    """Every value that an Add or a GlobalAveragePool can have."""
    if node.op_type == "GlobalAveragePool":
        scale, zero_point = grid(node.inputs[0].producer())
        pixels = int(np.prod(list(node.inputs[0].shape)[2:]))
        return (np.arange(255 * pixels + 1) / pixels - zero_point) * scale
    values = []
    for x in node.inputs:
        source = x.producer()
        scale, zero_point = grid(source)
        codes = array_of(source.inputs[0])
        values.append(((CODES if codes is None else codes.astype(int).ravel()) - zero_point) * scale)
    return np.add.outer(*values).ravel()


@pytest.mark.parametrize("name", ["residual3", "two_readers", "preactivation", "clamped_sum"])
def test_every_sum_is_clear_of_ties(name: str):
    was, now, _, _ = both(name)
    found = find(now, "Add", "GlobalAveragePool")
    assert found
    for node in found:
        (quantize,) = node.outputs[0].consumers()
        scale, zero_point = grid(quantize)
        assert tie_distance(sums(node) / scale, -zero_point, 255 - zero_point) >= MARGIN
    unmoved = [
        tie_distance(sums(n) / (g := grid(next(iter(n.outputs[0].consumers()))))[0], -g[1], 255 - g[1])
        for n in find(was, "Add")
    ]
    assert min(unmoved) < MARGIN  # it had to do something


@pytest.mark.parametrize("name", ["residual3", "two_readers", "clamped_sum"])
def test_scales_move_by_millionths_and_zero_points_stay(name: str):
    was, now, _, _ = both(name)
    moved = 0
    for old, new in zip(was.graph, now.graph, strict=True):
        assert (old.op_type, old.outputs[0].name) == (new.op_type, new.outputs[0].name)
        if old.op_type in ("QuantizeLinear", "DequantizeLinear") and np.ndim(array_of(old.inputs[1])) == 0:
            (s, z), (s2, z2) = grid(old), grid(new)
            assert z == z2 and abs(s2 / s - 1) <= LARGEST * 10
            moved += s != s2
    assert moved
    # a sum next to a tie may take the other code, and low-bit codes follow it
    assert difference(values(was), values(now)) < 0.1


@pytest.mark.parametrize("name", ["residual3", "clamped_sum", "preactivation"])
def test_a_tensor_is_read_with_the_scale_it_was_written_with_and_decisions_say_so(name: str):
    _, now, old, new = both(name)
    assert [d.name for d in old] == [d.name for d in new]
    for d in new:
        readers = [n for n in find(now, "DequantizeLinear") if n.inputs[0].name == d.codes]
        assert readers and all(grid(n) == (d.container_scale, d.zero_point) for n in readers)
        assert d.offset_carried == pytest.approx(-d.container_scale * (d.zero_point - d.origin), rel=1e-12, abs=1e-12)
    for node in find(now, "Add", "GlobalAveragePool"):
        (quantize,) = node.outputs[0].consumers()
        if str(node.outputs[0].name).endswith(".shifted"):
            continue  # there the constant moves
        reader = next(iter(quantize.outputs[0].consumers()))
        reader = next(iter(reader.outputs[0].consumers())) if reader.op_type == "Clip" else reader
        assert reader.inputs[1] is quantize.inputs[1]


def test_without_sums_nothing_changes():
    was, now, old, new = both("chain")
    assert old == new and difference(values(was), values(now)) == 0
    assert networks.operators(was) == networks.operators(now)


def test_a_scale_that_is_clear_stays():
    _, now, _, new = both("residual3")
    again = clear_ties(now, new)
    assert again == new


def test_the_logistic_function_misses_by_far_less_than_is_kept_clear_of_ties():
    """ONNX Runtime's float operator and the integer reference's, against float64."""
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Sigmoid", ["x"], ["y"])], "logistic", value[:1], value[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    x = np.linspace(-25, 25, 500_001, dtype=np.float32)
    exact = np.exp(-np.logaddexp(0, -x.astype(np.float64)))
    (session,) = Session(model).run(x).values()
    for found in (session, table.logistic(x)):
        assert 1e-8 < np.abs(found - exact).max() < LOGISTIC_ERROR / 2


def test_a_table_that_saturates_densely_above_the_last_code_keeps_its_scale():
    """σ(x) of large x lies next to 1 in many codes:

    where that is 255.5 steps there is no tie, since 256 saturates to 255.
    """
    values, scale = 1 / (1 + np.exp(-0.15 * (np.arange(256) - 60.0))), float(np.float32(1 / 255.5001))
    assert clear_scale(values, scale, 0, 255, margin=logistic_margin(scale)) == scale
    assert clear_scale(values, scale, 0, 256, margin=logistic_margin(scale)) != scale
