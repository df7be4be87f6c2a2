"""edges: every tensor between integer operators gets a grid, and none where a learned one does."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from calib import QuantizationError
from calib.folding.containers import integral_zero_point
from lsq_export.graph.grids import grid_of
from lsq_export.graph.read import array_of, attribute, is_marker
from lsq_export.rewrite.folding.edges import moves_to_integer_zero, on_grid, place_edges
from support import networks
from support.networks import before, inputs, operators, set_constant, values


def placed(name: str, *batches: torch.Tensor) -> ir.Model:
    model = before(name, "place_edges")
    place_edges(model, batches or [inputs(16, 1)])
    return model


def edges(model: ir.Model) -> dict[str, ir.Node]:
    return {
        str(node.outputs[0].name): node for node in model.graph if is_marker(node) and attribute(node, "kind") == "edge"
    }


def grid(edge: ir.Node) -> tuple[float, float]:
    scale, offset = (float(array_of(v)) for v in edge.inputs[1:3])
    return scale, offset


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("chain", 0),  # learned grids behind convolutions, 8 bits at the input; the Gemm's accumulator is the output
        ("chain2", 1),  # the low-bit grid of the input has no bias to carry its offset
        ("perceptron", 1),  # in front of the batch norm that stands alone
        ("clamps", 1),  # the output
        ("twice", 1),  # the output
        ("two_readers", 5),  # input, a's output, b's, c's, the sum
        ("unflatten", 2),  # input, output
    ],
)
def test_edges_are_where_no_learned_grid_is(name: str, count: int):
    model = placed(name)
    assert len(edges(model)) == count
    for node in model.graph:  # what the next passes rely on
        if node.op_type in ("Conv", "Gemm", "Add", "Concat", "GlobalAveragePool", "AveragePool"):
            data = node.inputs if node.op_type in ("Add", "Concat") else node.inputs[:1]
            assert all(on_grid(v) for v in data)
    for output in model.graph.outputs:
        assert on_grid(output) or output.producer().op_type == "Gemm"
    assert not {"Relu", "Clip"} & set(operators(model))  # absorbed
    for node in model.graph:
        if is_marker(node) and attribute(node, "kind") == "activation":
            producer = node.inputs[0].producer()
            behind_a_layer = producer is not None and producer.op_type in ("Conv", "Gemm")
            assert behind_a_layer or on_grid(node.inputs[0]) or moves_to_integer_zero(node)


def test_a_network_with_learned_grids_everywhere_stays_as_it_is():
    was, now = values(before("chain", "place_edges")), values(placed("chain"))
    assert np.array_equal(was["output0"], now["output0"])


@pytest.mark.parametrize("name", ["two_readers", "residual3", "concat", "clamped_sum", "uncounted", "two_outputs"])
def test_an_edge_moves_what_it_saw_by_half_a_step(name: str):
    """Or by the clipping that its squared error paid for; outputs are never clipped."""
    model = placed(name)
    found = values(model, inputs(16, 1))
    assert edges(model)
    for output, edge in edges(model).items():
        (scale, offset), x, y = grid(edge), edge.inputs[0], found[output]
        x = inputs(16, 1).double().numpy() if x.producer() is None else found[x.name]
        low, high = (scale * attribute(edge, end) + offset for end in ("qmin", "qmax"))
        assert np.abs(y - x.clip(low, high)).max() <= 0.5 * scale * (1 + 1e-9)
        assert low <= 0 <= high or attribute(edge, "qmin") > 0
        assert np.rint(-offset / scale) == pytest.approx(-offset / scale, abs=1e-9)  # an integer zero point
        if edge.outputs[
            0
        ].is_graph_output():  # the range of what calibration saw, which is the network without its edges
            seen = values(before(name, "place_edges"), inputs(16, 1))[output]
            assert low - scale <= seen.min() and seen.max() <= high + scale


def test_outputs_keep_their_names():
    for name in ("two_readers", "two_outputs", "clamped_sum", "unflatten"):
        assert [v.name for v in placed(name).graph.outputs] == [
            v.name for v in before(name, "place_edges").graph.outputs
        ]


def test_batches_count_together():
    one, many = placed("two_readers", inputs(16, 1)), placed("two_readers", *inputs(16, 1).split(5))
    for name, edge in edges(one).items():
        assert grid(edge)[0] == pytest.approx(grid(edges(many)[name])[0], rel=0.03)  # a histogram grows differently


def test_a_clamp_becomes_codes_of_its_edge():
    model = placed("clamped_sum")
    first, last = (
        edges(model)[name] for name in edges(model) if attribute(edges(model)[name], "quantizer").startswith("Clip")
    )
    scale, offset = grid(first)
    assert scale * 0 + offset >= -0.3 - scale and scale * 255 + offset <= 0.4 + scale
    assert attribute(last, "qmin") == int(np.rint((0.25 - grid(last)[1]) / grid(last)[0])) > 0


@pytest.mark.parametrize("batches", [[], [torch.zeros(0, *networks.SHAPE)]])
def test_no_data_are_refused(batches: list[torch.Tensor]):
    with pytest.raises(QuantizationError, match="calibration data is empty"):
        place_edges(before("two_readers", "place_edges"), batches)


def test_data_that_are_not_finite_are_refused():
    with pytest.raises(QuantizationError, match="not finite"):
        place_edges(before("two_readers", "place_edges"), [torch.full((2, *networks.SHAPE), torch.nan)])


def test_data_are_kept_for_grids_that_a_padded_convolution_reads_alone():
    """The fold "integer" chooses those by the data; what comes into the others is looked at, too."""
    asked, all_learned = 0, 0
    for name in ("chain", "chain2", "two_readers", "perceptron"):
        model = before(name, "place_edges")
        learned = {str(attribute(n, "quantizer")): n for n in model.graph if is_marker(n) and attribute(n, "bits") < 8}
        seen = place_edges(model, [inputs(16, 1)])
        padded = {
            name
            for name, n in learned.items()
            if any(any(attribute(c, "pads", [])) for c in n.outputs[0].consumers() if c.op_type == "Conv")
        }
        assert set(seen) == {name for name in padded if integral_zero_point(grid_of(learned[name])) is None}
        asked, all_learned = asked + len(seen), all_learned + len(learned)
    assert 0 < asked < all_learned
    with pytest.raises(QuantizationError, match="not finite"):
        place_edges(
            before("perceptron", "place_edges"),
            [torch.full((2, *before("perceptron", "place_edges").graph.inputs[0].shape[1:]), torch.nan)],
        )


@pytest.mark.parametrize("what", [1, 2])
def test_sabotage_shows(what: str):
    was, now = placed("two_readers"), placed("two_readers")
    edge = next(
        edge
        for edge in edges(now).values()
        if not edge.outputs[0].is_graph_output() and edge.inputs[0].producer() is not None
    )
    scale, offset = grid(edge)
    set_constant(edge.inputs[what], np.array(2 * scale if what == 1 else offset + 0.4 * scale))
    assert networks.difference(values(was), values(now)) > 1e-2
