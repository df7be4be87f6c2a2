"""lsq_export/verification/cause.py: ties, borders, and what lies between two learned grids."""

from __future__ import annotations

from dataclasses import replace as with_changes

import numpy as np
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F

from lsq_export.rewrite.contract.decisions import Remainder
from lsq_export.verification.cause import Cause, causes, near_tie, on_border
from lsq_export.verification.reasons import Reason
from support import networks


def test_a_tie_is_a_half() -> None:
    steps = np.array([0.5, -0.5, 7.4995, 7.4985, 3.0, -2.5004, 255.5])
    assert near_tie(steps).tolist() == [True, True, True, False, False, True, True]
    assert near_tie(steps, 0.5).all()


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "pads"),
    [(3, 1, 1, (1, 1, 1, 1)), (3, 2, 1, (1, 1, 1, 1)), (2, 1, 2, (0, 1, 1, 0)), (5, 3, 1, (2, 0, 2, 1))],
)
def test_the_border_is_where_a_kernel_of_ones_sums_less(
    kernel: int, stride: int, dilation: int, pads: tuple[int, int, int, int]
) -> None:
    attributes = {
        "kernel_shape": [kernel] * 2,
        "strides": [stride] * 2,
        "dilations": [dilation] * 2,
        "pads": list(pads),
    }
    conv = ir.node("Conv", [ir.val("x", shape=["N", 1, 9, 8])], attributes)
    top, left, bottom, right = pads
    ones = F.pad(torch.ones(1, 1, 9, 8), (left, right, top, bottom))
    sums = F.conv2d(ones, torch.ones(1, 1, kernel, kernel), None, stride, 0, dilation)[0, 0].numpy()
    assert np.array_equal(on_border(conv), sums < kernel**2) and 0 < (sums < kernel**2).mean() < 1


def test_every_element_that_differs_has_one_reason() -> None:
    differs = np.array([[[[True, True], [True, False]]]])
    steps = np.array([[[[0.5, 0.5], [0.2, 0.5]]]])
    border = np.array([[True, False], [False, False]])
    assert Cause(border=border).count(differs, steps) == {Reason.BORDER: 1, Reason.TIE: 1, Reason.UNKNOWN: 1}
    assert Cause().count(differs, steps) == {Reason.BORDER: 0, Reason.TIE: 2, Reason.UNKNOWN: 1}
    # after a Flatten
    assert Cause(border=border).count(differs.ravel()[None], steps.ravel()[None]) == {
        Reason.BORDER: 1,
        Reason.TIE: 2,
        Reason.UNKNOWN: 0,
    }
    assert Cause(whole=Reason.EDGE).count(differs, steps) == {Reason.EDGE: 3}


def found(name: str) -> dict[str, Cause]:
    made = networks.folded(name)
    by_codes = causes(made.model.graph, made.tensors, made.layers)
    return {d.name: by_codes[d.codes] for d in made.tensors if d.kind == "activation"}


def test_what_lies_in_front_of_a_grid() -> None:
    assert found("residual")["stem.input"].whole == Reason.GRID  # 8 bits: moved onto an integer zero point
    why = found("residual3")
    assert why["a.input"].whole == why["c.input"].whole == Reason.EDGE  # read by a sum as well: an 8-bit grid in front
    assert why["b.input"].whole is None and np.shape(why["b.input"].border) == (9, 9)
    assert why["b.input"].tie > 1e-3  # the rounding of its bias
    assert found("chain")["3.input"].whole is None


def test_a_scale_that_moved_off_ties_moves_codes_near_ties() -> None:
    made = networks.folded("chain")
    index, d = next((i, d) for i, d in enumerate(made.tensors) if d.name == "3.input")
    moved = with_changes(d, container_scale=d.container_scale * (1 + 1e-3))
    before, after = (
        causes(made.model.graph, tensors, made.layers)[d.codes]
        for tensors in (made.tensors, [*made.tensors[:index], moved])
    )
    assert after.whole is None and after.tie - before.tie == pytest.approx((d.levels - 1) * 1e-3, rel=1e-2)


def test_an_input_that_moved_by_less_than_counts_flips_near_ties() -> None:
    made = networks.folded("chain")
    index, d = next((i, d) for i, d in enumerate(made.tensors) if d.remainder == Remainder.MOVED)
    little = with_changes(d, error_steps=0.0099, container_scale=d.scale)
    tensors = [*made.tensors[:index], little, *made.tensors[index + 1 :]]
    cause = causes(made.model.graph, tensors, made.layers)[d.codes]
    assert cause.whole is None and cause.tie > 0.0099
    assert cause.count(np.array([True, True]), np.array([7.4905, 7.47])) == {
        Reason.BORDER: 0,
        Reason.TIE: 1,
        Reason.UNKNOWN: 1,
    }


def test_coarser_weights_flip_codes_near_ties() -> None:
    made = networks.folded("chain")
    layers = [with_changes(d, coarse_steps=0.008) for d in made.layers]
    before, after = (causes(made.model.graph, made.tensors, of)["3.input.strided"] for of in (made.layers, layers))
    assert after.tie - before.tie == pytest.approx(0.008)
