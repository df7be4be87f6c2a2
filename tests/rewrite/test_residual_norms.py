"""Residual sums before layer norms stay float: accumulators go there without a grid of 8 bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lsq_export.graph.islands import islands
from lsq_export.graph.read import is_op, producer_of
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.rewrite.folding import edges
from lsq_export.rewrite.normalizing import float_islands
from support import networks
from support.networks import Case, Wired, inputs, verified

W8A8: dict[str, Any] = {"weight_bits": 8, "activation_bits": 8, "edges": "calibrated", "first_last_bits": None}
SHAPE = (5, 8)  # tokens, channels
OUTLIER = 3  # a channel that is far larger than all others


def after(s: Any, x: torch.Tensor) -> torch.Tensor:
    """Norms after sums, as in BERT."""
    y = s.norm(x + s.a(x))
    return s.b(s.last(y + s.c(y)))


def before(s: Any, x: torch.Tensor) -> torch.Tensor:
    """Norms before layers, as in vision transformers."""
    y = x + s.a(s.norm(x))
    return s.b(s.last(y + s.c(s.middle(y))))


def made(function: Any, **more: Any) -> tuple[nn.Module, Folded]:
    torch.manual_seed(0)
    names = ("a", "b", "c")
    layers = {name: nn.Linear(8, 8) for name in names}
    with torch.no_grad():
        for name in ("a", "c"):
            layers[name].weight[OUTLIER] *= 60
    net = Wired(function, **layers, **{name: nn.LayerNorm(8) for name in ("norm", "middle", "last")})
    model = networks.train(Case(lambda: net, {**W8A8, **more}, SHAPE))
    return model, fold(networks.quick_capture(model, SHAPE), [inputs(64, 1, SHAPE)])


@pytest.mark.parametrize("function", [after, before])
def test_outliers_do_not_take_the_codes_of_other_channels(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, folded = made(function)
    found = islands(folded.model.graph)
    assert [i.operator for i in found].count("LayerNormalization") == (3 if function is before else 2)
    assert [i.operator for i in found].count("Add") == 2
    parity, files = verified(model, folded, [inputs(32, 2, SHAPE)])
    assert parity.ok
    integers = files["qoperator"].graph.node
    assert [node.op_type for node in integers].count("MatMulInteger") == 3  # with that at the output
    monkeypatch.setattr(float_islands, "NORMS", ())  # sums on grids of 8 bits
    coarse, files = verified(*made(function), [inputs(32, 2, SHAPE)])
    assert [node.op_type for node in files["qoperator"].graph.node].count("MatMulInteger") == 1
    assert parity.folded_sqnr_db > coarse.folded_sqnr_db + 3


def test_a_sum_with_a_trained_grid_keeps_it() -> None:
    _, folded = made(after, edges="trained")
    norms = [node for node in folded.model.graph if is_op(node, "LayerNormalization")]
    assert len(norms) == 2 and all(is_op(producer_of(norm.inputs[0]), "DequantizeLinear") for norm in norms)


def test_what_a_sum_reads_of_a_norm_has_no_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layers that read it as well have grids of their own."""
    model, folded = made(after)
    sums = [node for node in folded.model.graph if node.op_type == "Add"]
    assert [is_op(producer_of(x), "LayerNormalization") for x in sums[1].inputs].count(True) == 1
    parity, _ = verified(model, folded, [inputs(32, 2, SHAPE)])
    assert parity.ok
    monkeypatch.setattr(edges, "_from_norm", lambda value: False)
    model, folded = made(after)
    sums = [node for node in folded.model.graph if node.op_type == "Add"]
    assert not any(is_op(producer_of(x), "LayerNormalization") for x in sums[1].inputs)
    coarse, _ = verified(model, folded, [inputs(32, 2, SHAPE)])
    assert parity.folded_sqnr_db > coarse.folded_sqnr_db
