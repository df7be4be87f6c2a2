"""output_tails: parts of an output keep grids of their own, and all that follows is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from lsq_export.graph.islands import islands
from lsq_export.rewrite.fold import Folded
from lsq_export.verification.parity import Parity
from support import networks
from support.differing import differing
from support.networks import Case, Wired, folded, inputs, trained, verified

BOXES, SCORES = 640.0, 4  # how large boxes are; the first channel of the scores
ANCHORS = torch.linspace(0, BOXES, 4 * 81).reshape(4, 81)


def head(name: str) -> nn.Module:
    """Boxes and scores of 9×9 places, put together in several ways."""

    def forward(s: Any, x: torch.Tensor) -> Any:
        boxes, scores = s.box(x).flatten(2), s.cls(x).flatten(2).sigmoid()
        if name == "anchors":
            boxes = (boxes + ANCHORS) * torch.tensor([8.0, 16.0, 32.0]).repeat(27)
        y = torch.cat([boxes if name == "anchors" else boxes * BOXES, scores], 1)
        if name == "clamped":
            return y.clamp(0.3, 1000.0)
        if name == "read by a layer as well":
            return y, s.last(y)
        return y.permute(0, 2, 1) if name == "transposed" else y

    last = {"last": nn.Linear(81, 2)} if name == "read by a layer as well" else {}
    return Wired(forward, box=nn.Conv2d(3, 4, 1), cls=nn.Conv2d(3, 3, 1), **last)


NAMES = ("transposed", "clamped", "anchors")
EIGHT = {"weight_bits": 8, "activation_bits": 8}
CASES = {name: Case(lambda name=name: head(name), EIGHT) for name in (*NAMES, "read by a layer as well")}


def checked(name: str) -> tuple[Folded, Parity, dict[str, onnx.ModelProto]]:
    made = folded(CASES[name])
    parity, files = verified(trained(CASES[name]), made, [inputs(16, 1)])
    return made, parity, files


@pytest.mark.parametrize("name", NAMES)
def test_scores_survive_beside_boxes(name: str) -> None:
    made, parity, files = checked(name)
    assert parity.ok, parity.failures
    assert min(part.sqnr_db for part in parity.parts) > 25  # on one grid for both: below 0
    assert {part.part for part in parity.parts} == {"box", "Sigmoid"} and not islands(made.model.graph)
    assert parity.formats["qoperator"].reference_mismatch == 0  # also of what is put together in float
    kinds = [node.op_type for node in files["qoperator"].graph.node]
    assert "QLinearConcat" not in kinds and kinds.count("Concat") == 1


def test_anchors_are_not_rounded() -> None:
    """They are up to 640, on 8 bits they would move by 1.3."""
    made, _, _ = checked("anchors")
    x = inputs(4, 1)
    expected, found = (networks.values(model, x)["output0"][:, :SCORES] for model in (made.trained, made.model))
    strides = np.tile([8.0, 16.0, 32.0], 27)
    assert np.abs((found - expected) / strides).max() < 0.1


def test_other_readers_of_the_concat_keep_one_of_integers() -> None:
    name = "read by a layer as well"
    made, parity, files = checked(name)
    assert parity.ok, parity.failures
    kinds = [node.op_type for node in files["qoperator"].graph.node]
    assert {"QLinearConcat", "Concat"} <= set(kinds)
    assert [o.name for o in files["qoperator"].graph.output] == [o.name for o in made.trained.graph.outputs]
    assert differing(made, inputs(8, 3, spread=3.0).numpy()) == []  # with tables


@pytest.mark.parametrize("name", ["concat", "two_outputs"])
def test_networks_without_a_concat_at_an_output_stay_as_they_are(name: str) -> None:
    before, after = (networks.before(name, stage) for stage in ("output_tails", "constant_grids"))
    assert networks.operators(before) == networks.operators(after)
    assert np.array_equal(networks.values(before)["output0"], networks.values(after)["output0"])
