"""clamps: clamps become clamps of codes and grids move in front of what keeps codes; nothing changes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from calib import QuantizationError
from lsq_export.graph.notes import PASSED
from lsq_export.graph.read import MARKER, MARKER_DOMAIN, array_of, attribute, is_marker
from lsq_export.rewrite.folding.clamps import absorb_clamps, clamp_bounds
from support.networks import before, difference, find, hand_made, operators, set_constant, values


def absorbed(name: str) -> ir.Model:
    model = before(name, "absorb_clamps")
    absorb_clamps(model)
    return model


def markers(model: ir.Model) -> dict[str, ir.Node]:
    return {attribute(node, "quantizer"): node for node in model.graph if is_marker(node)}


@pytest.mark.parametrize("name", ["chain", "chain2", "signed", "clamps", "transposed", "perceptron", "unflatten"])
def test_the_network_stays_as_it_is(name: str):
    was, now = before(name, "absorb_clamps"), absorbed(name)
    assert difference(values(was), values(now)) < 1e-12
    assert [v.name for v in now.graph.outputs] == [v.name for v in was.graph.outputs]


def test_clamps_in_front_of_grids_are_gone():
    was, now = before("clamps", "absorb_clamps"), absorbed("clamps")
    assert [node.op_type for node in find(was, "Relu", "Clip")] == ["Clip", "Clip", "Relu"]
    assert operators(now).count("Relu") == 1 and "Clip" not in operators(now)  # the last one has no grid behind it yet
    for name, low, high in (("3.input", -0.5, 0.7), ("6.input", 0.0, 6.0)):
        old, new = markers(was)[name], markers(now)[name]
        scale, offset = (float(array_of(v)) for v in new.inputs[1:])
        top = attribute(old, "qmax")
        expected = [int(np.rint((bound - offset) / scale).clip(0, top)) for bound in (low, high)]
        assert [attribute(new, "qmin"), attribute(new, "qmax")] == expected and attribute(old, "qmin") == 0


@pytest.mark.parametrize(
    ("name", "quantizer", "mover"),
    [("clamps", "6.input", "MaxPool"), ("chain", "8.input", "Reshape"), ("transposed", "b.input", "Transpose")],
)
def test_grids_move_in_front_of_what_keeps_codes(name: str, quantizer: str, mover: str):
    was, now = markers(before(name, "absorb_clamps"))[quantizer], markers(absorbed(name))[quantizer]
    assert was.inputs[0].producer().op_type == mover
    assert now.inputs[0].producer().op_type == "Conv"
    (reader,) = now.outputs[0].consumers()
    assert reader.op_type in ("MaxPool", mover) and PASSED.read(reader)[0] == quantizer


def test_a_clamp_with_two_readers_stays():
    model = absorbed("two_readers")
    assert operators(model).count("Relu") == 1
    assert all((attribute(m, "qmin"), attribute(m, "qmax")) == (0, 7) for m in markers(model).values())


def by_hand(
    clamp: str = "Relu",
    bounds: tuple[float | None, float | None] = (None, None),
    offset: float = -0.35,
    outputs: tuple[str, ...] = ("y",),
) -> ir.Model:
    """x -> clamp -> Flatten -> marker (scale 0.1, codes 0 … 15)."""
    constants = {
        "s": np.float32(0.1),
        "b": np.float32(offset),
        **{f"c{i}": np.float32(v) for i, v in enumerate(bounds) if v is not None},
    }
    names = [f"c{i}" if v is not None else "" for i, v in enumerate(bounds)] if clamp == "Clip" else []
    marker = {"qmin": 0, "qmax": 15, "bits": 4, "kind": "activation", "axis": -1, "quantizer": "layer.input"}
    nodes = [
        helper.make_node(clamp, ["x", *names], ["a"], "clamp"),
        helper.make_node("Flatten", ["a"], ["f"], "flat"),
        helper.make_node(MARKER, ["f", "s", "b"], ["y"], "marker", domain=MARKER_DOMAIN, **marker),
    ]
    return hand_made(nodes, constants, ("batch", 2, 3, 3), outputs)


CLAMPS = [
    ("Relu", (None, None)),
    ("Clip", (0.0, 6.0)),
    ("Clip", (-0.2, 0.33)),
    ("Clip", (None, 0.4)),
    ("Clip", (0.1, None)),
    ("Clip", (None, None)),
]


@pytest.mark.parametrize(("clamp", "bounds"), CLAMPS)
@pytest.mark.parametrize("offset", [-0.35, 0.0, 0.27])
def test_by_hand(clamp: str, bounds: tuple[float | None, float | None], offset: float):
    model = by_hand(clamp, bounds, offset)
    absorb_clamps(model)
    assert operators(model) == [MARKER, "Flatten"] and model.graph.outputs[0].name == "y"
    x = np.random.default_rng(0).standard_normal((400, 2, 3, 3))
    low, high = (
        (-np.inf if bounds[0] is None else bounds[0], np.inf if bounds[1] is None else bounds[1])
        if clamp == "Clip"
        else (0, np.inf)
    )
    scale, beta = float(np.float32(0.1)), float(np.float32(offset))
    expected = np.rint((x.clip(low, high) - beta) / scale).clip(0, 15) * scale + beta
    assert np.abs(values(model, x)["output0"] - expected.reshape(400, -1)).max() < 1e-12


def test_what_the_outside_reads_stays():
    model = by_hand(outputs=("y", "a"))
    absorb_clamps(model)
    assert operators(model) == ["Relu", MARKER, "Flatten"]  # the grid moves in front of Flatten; the clamp is an output


@pytest.mark.parametrize("end", ["qmin", "qmax"])
def test_sabotage_shows(end: str):
    was, now = before("clamps", "absorb_clamps"), absorbed("clamps")
    marker = markers(now)["3.input"]
    marker.attributes[end] = ir.AttrInt64(end, attribute(marker, end) + (1 if end == "qmin" else -1))
    assert difference(values(was), values(now)) > 1e-3


def test_a_clamp_that_leaves_one_code_is_refused_by_the_quantizer_s_name():
    model = before("clamps", "absorb_clamps")
    set_constant(markers(model)["3.input"].inputs[2], np.array(-100.0))
    with pytest.raises(
        QuantizationError, match=r"^3\.input: the clamp to -0.5 … 0.7 before it leaves one code of the grid -100 …"
    ):
        absorb_clamps(model)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [(1, 0.0, "scale is 0.0"), (1, np.nan, "scale is nan"), (2, np.inf, "offset is inf")],
)
def test_a_bad_grid_is_refused_by_the_quantizer_s_name(position: int, value: float, message: str):
    model = before("clamps", "absorb_clamps")
    set_constant(markers(model)["6.input"].inputs[position], np.array(value))
    with pytest.raises(QuantizationError, match=rf"^6\.input: {message}"):
        absorb_clamps(model)


def test_an_empty_clamp_is_refused():
    with pytest.raises(QuantizationError, match=r"clamp: a clamp to 2.0 … 1.0 is empty"):
        absorb_clamps(by_hand("Clip", (2.0, 1.0)))
    assert clamp_bounds(find(by_hand("Clip", (1.0, 1.0)), "Clip")[0]) == (1.0, 1.0)


def test_a_bound_may_be_a_vector_of_one_element():
    """torch.maximum(x, torch.zeros(1)) has one."""
    model = by_hand("Clip", (0.25, None))
    (clip,) = find(model, "Clip")
    set_constant(clip.inputs[1], np.array([0.25]))
    assert clamp_bounds(clip) == (0.25, np.inf)
