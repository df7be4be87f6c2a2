"""unlike: a small addend of an output survives, and what is lost elsewhere is said."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from calib import QuantizationWarning
from lsq_export.rewrite.fold import fold
from support.networks import Case, Wired, captured, folded, inputs, operators, trained, verified

EIGHT = {"weight_bits": 8, "activation_bits": 8}


def residual(size: float, clamp: bool) -> nn.Module:
    """x and a correction of this size."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        y = x + size * s.b(F.relu(s.a(x)))
        return y.clamp(-9.0, 9.0).flatten(2) if clamp else y

    return Wired(forward, a=nn.Conv2d(3, 8, 3, padding=1), b=nn.Conv2d(8, 3, 3, padding=1))


SMALL, LIKE = (
    Case(lambda size=size, clamp=clamp: residual(size, clamp), EIGHT) for size, clamp in ((0.02, True), (1.0, False))
)


def test_a_small_addend_of_an_output_is_added_in_float() -> None:
    parity, files = verified(trained(SMALL), folded(SMALL), [inputs(16, 1)])
    assert parity.ok, parity.failures
    assert parity.formats["qoperator"].reference_mismatch == 0
    assert "Add" in [node.op_type for node in files["qoperator"].graph.node]
    assert "QLinearAdd" not in [node.op_type for node in files["qoperator"].graph.node][-2:]
    assert parity.folded_sqnr_db > 35


def test_like_addends_have_an_integer_sum() -> None:
    parity, files = verified(trained(LIKE), folded(LIKE))
    assert parity.ok, parity.failures
    assert "QLinearAdd" in [node.op_type for node in files["qoperator"].graph.node]
    assert "Add" not in [node.op_type for node in files["qoperator"].graph.node]


def inside(scale: float, what: str) -> nn.Module:
    """The sum or Concat of a large and a small value, before another operator."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        large, small = s.box(x) * scale, s.cls(x).sigmoid()
        return F.leaky_relu(torch.cat([large, small], 1) if what == "Concat" else large + small)

    return Wired(forward, box=nn.Conv2d(3, 4, 1), cls=nn.Conv2d(3, 4, 1))


@pytest.mark.parametrize("what", ["Concat", "Add"])
def test_a_part_that_is_lost_is_named_with_ranges(what: str) -> None:
    case = Case(lambda: inside(640.0, what), EIGHT)
    said = rf"{what}: Sigmoid.output \(0 … [\d.]+\) is lost in the one 8-bit grid of this {what} with box"
    with pytest.warns(QuantizationWarning, match=said):
        made = fold(captured(case), [inputs(16, 1)])
    parity, _ = verified(trained(case), made, [inputs(16, 1)])
    assert ("channels of outputs LOST" in parity.verdict) == (what == "Concat")  # boxes stay what they were
    assert "FakeQuantize" in operators(made.trained)


def test_nothing_is_said_of_like_parts() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fold(captured(Case(lambda: inside(1.0, "Concat"), EIGHT)), [inputs(16, 1)])


def test_a_part_that_a_constant_wipes_out_is_named_once() -> None:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        return s.b(F.leaky_relu(300.0 + s.a(x).sigmoid()))

    case = Case(lambda: Wired(forward, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 4, 1)), EIGHT)
    with pytest.warns(QuantizationWarning, match=r"Sigmoid.output \(0 … [\d.]+\) is lost .* Add with a constant: it"):
        fold(captured(case), [inputs(16, 1)])
