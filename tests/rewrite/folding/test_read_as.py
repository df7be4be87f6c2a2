"""read_as: the grid of an edge is the one that costs least in what is read of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsq_export.graph.grids import is_edge, quantizer_of
from lsq_export.graph.read import is_marker
from lsq_export.rewrite.fold import fold
from lsq_export.rewrite.folding import calibrate_edges, edges
from lsq_export.rewrite.folding.read_as import read_as
from support.networks import Case, Wired, captured, inputs, quick_capture, state_before, train, verified

EIGHT = {"weight_bits": 8, "activation_bits": 8}


def network(function: Any) -> Case:
    """A convolution whose outputs go far beyond what the function tells apart."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        return s.last(function(4 * s.first(x)))

    return Case(lambda: Wired(forward, first=nn.Conv2d(3, 8, 1), last=nn.Conv2d(8, 4, 1)), EIGHT)


def both(x: torch.Tensor) -> torch.Tensor:
    return F.hardswish(x) + x


def edge_of(case: Case, name: str, monkeypatch: pytest.MonkeyPatch) -> ir.Node:
    """An edge as it is when its grid is chosen."""
    found = list[ir.Node]()

    def stop(graph: ir.Graph, markers: list[ir.Node], *rest: object) -> Any:
        found.extend(marker for marker in markers if name in quantizer_of(marker))
        raise InterruptedError

    model, state = state_before(captured(case), "place_edges", [inputs(16, 1)])
    monkeypatch.setattr(edges, "calibrate", stop)
    with pytest.raises(InterruptedError):
        edges.PASS.run(model, state)
    (marker,) = found
    return marker


def test_it_is_the_function_up_to_the_ends_of_the_learned_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    marker = edge_of(network(F.hardswish), "first", monkeypatch)
    found = read_as(marker)
    assert found is not None
    ((low, high),) = found.ends.values()
    assert -1 < low < 0 < high < np.inf
    x = np.linspace(-30, 30, 24).reshape(2, 3, 4)
    (y,) = found(x)
    expected = F.hardswish(torch.from_numpy(x)).clamp(low, high).numpy()
    np.testing.assert_allclose(y, expected, atol=0.02)  # 3 and 1/6 lie on grids


def test_who_reads_the_edge_itself_counts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_as(edge_of(network(both), "first", monkeypatch))
    assert found is not None
    ((low, high),) = found.ends.values()  # the sum is a function of the edge alone, too
    np.testing.assert_allclose(found(np.array([-9.0, 9.0]))[0], np.clip([-9.0, 18.0], low, high), atol=0.05)


@pytest.mark.parametrize("function", [F.leaky_relu, lambda x: x])
def test_an_edge_that_is_read_as_it_is_has_none(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a sum with something else, which spends its codes on all of it."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        y = s.first(x)
        return s.last(function(s.other(x)) + y)

    layers = {"first": nn.Conv2d(3, 8, 1), "other": nn.Conv2d(3, 8, 1), "last": nn.Conv2d(8, 4, 1)}
    case = Case(lambda: Wired(forward, **layers), EIGHT)
    assert read_as(edge_of(case, "first", monkeypatch)) is None


@pytest.mark.parametrize(
    ("function", "decibel"), [(F.hardswish, 1.0), (F.silu, 1.0), (F.gelu, 1.0), (torch.sigmoid, 3.0)]
)
def test_the_fold_loses_less(function: Any, decibel: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Than with the grid that is best for what goes into the function, and all promises hold."""
    case, x = network(function), [inputs(64, 2)]
    model = train(case)
    found = quick_capture(model)
    nearer, _ = verified(model, fold(found, [inputs(64, 1)]), x)
    monkeypatch.setattr(calibrate_edges, "read_as", lambda edge: None)
    plain, _ = verified(model, fold(found, [inputs(64, 1)]), x)
    assert nearer.ok and nearer.formats["qoperator"].reference_mismatch == 0
    assert nearer.folded_sqnr_db > plain.folded_sqnr_db + decibel


def test_no_edge_is_without_a_grid_afterwards() -> None:
    model, _ = state_before(captured(network(F.hardswish)), "place_offsets", [inputs(16, 1)])
    assert all(len(node.inputs) == 3 for node in model.graph if is_marker(node) and is_edge(node))


def test_before_few_bits_the_edge_stays_as_coarse_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    four = Case(network(F.hardswish).build, {**EIGHT, "activation_bits": 4, "first_last_bits": None})
    assert read_as(edge_of(four, "first", monkeypatch)) is None
