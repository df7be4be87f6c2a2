"""lsq_export/verification/trained_layers.py: the folded model's codes against the trained model's, layer by layer on
the same inputs.
"""

from __future__ import annotations

from dataclasses import replace as with_changes
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsq_export import integer
from lsq_export.graph.edit import constant, copy
from lsq_export.graph.read import constant_of
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.targets import ORT_CPU
from lsq_export.verification.layer_parity import LayerParity, first_differing
from lsq_export.verification.trained_layers import TrainedLayers
from support import networks
from support.networks import LOW, Case, Conv, Wired, inputs, three


def price(made: Folded, x: torch.Tensor) -> dict[str, LayerParity]:
    (file,) = emit_all(made, ("qoperator",), ORT_CPU).values()
    tool = TrainedLayers(made.trained.graph, made.model.graph, made.tensors, made.layers)
    for part in x.split(4):
        tool.add(part, integer.run(file, {"input": part.numpy()}))
    assert all(sum(layer.reasons.values()) == sum(layer.histogram.values()) for layer in tool.result())
    return {layer.name: layer for layer in tool.result()}


def fold_case(case: Case) -> Folded:
    return fold(networks.quick_capture(networks.train(case), case.shape), [inputs(16, 1, case.shape)])


def test_without_padding_only_ties_of_the_rounded_bias_differ() -> None:
    found = price(fold_case(Case(lambda: three(0), {"weight_bits": 3, "activation_bits": 3})), inputs(16, 2))
    assert list(found) == ["0.input", "2.input", "4.input"] and found["2.input"].elements == 16 * 8 * 7 * 7
    assert found["0.input"].reasons.keys() <= {"grid"}  # the 8-bit input moved onto an integer zero point
    assert all(
        found[name].reasons.keys() <= {"tie"} and found[name].differing < 5e-3 for name in ("2.input", "4.input")
    )


def test_padding_differs_on_the_border_and_sums_differ_by_their_edge() -> None:
    config = {"weight_bits": 2, "activation_bits": 4}
    found = price(
        fold_case(Case(lambda: nn.Sequential(*(Conv(3, 3, 3, padding=1) for _ in range(4))), config)),
        inputs(64, 2, spread=3.0),
    )
    border = [layer.reasons.get("border", 0) for name, layer in found.items() if name in ("2.input", "3.input")]
    assert min(border) > 0 and not any("unknown" in layer.reasons for layer in found.values())
    found = price(networks.folded("residual"), inputs(16, 2))
    assert found["a.input"].reasons == {"edge": sum(found["a.input"].histogram.values())} != {"edge": 0}


def test_grids_after_a_pool_are_compared_after_it() -> None:
    found = price(networks.folded("chain"), inputs(16, 2))
    assert found["8.input"].elements == 16 * 128  # after the Flatten; the codes are made before the pool
    assert found["8.input"].differing < 5e-3


@pytest.mark.parametrize("padding", [0, 1])
def test_grids_after_what_keeps_the_shape_are_compared_after_it(padding: int) -> None:
    """Codes before a pool with stride 1, or a transpose of square images, have the shape of those after it.

    A border may be elsewhere.
    """

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        return s.d(F.max_pool2d(s.c(F.max_pool2d(s.b(s.a(x)), 3, 1, 1)), 3, 1, 1).transpose(2, 3))

    def build() -> nn.Module:
        made: nn.Module = Wired(
            forward, a=Conv(3, 4, 3), b=Conv(4, 4, 3, padding=padding), c=Conv(4, 4, 1), d=Conv(4, 4, 1)
        )
        return made

    found = price(fold_case(Case(build, {"weight_bits": 2, "activation_bits": 4})), inputs(64, 2, spread=3.0))
    assert not any("unknown" in layer.reasons for layer in found.values()), found
    assert all(found[name].differing < 5e-3 for name in ("b.input", "d.input"))
    assert found["c.input"].reasons.get("border", 0) > 0 if padding else found["c.input"].differing < 5e-3


@pytest.mark.parametrize("offset", ["real", "integer"])
def test_every_use_of_a_quantizer_is_compared_with_its_own_codes(offset: str) -> None:
    def build() -> nn.Module:
        made: nn.Module = networks.ZOO["twice"].build()
        return made

    made = fold_case(Case(build, {**LOW, "offset": offset}))
    learned = [d for d in made.tensors if d.kind == "activation"]
    assert [d.name for d in learned] == ["a.input", "b.input", "b.input_1", "c.input"] and len(
        {d.codes for d in made.tensors}
    ) == len(made.tensors)
    nodes = {str(node.outputs[0].name): node for node in made.model.graph}
    for d in learned:  # what the record says is what the file holds
        (reader,) = (n for n in nodes[d.codes].outputs[0].consumers() if n.op_type == "DequantizeLinear")
        assert [constant_of(v, d.name).item() for v in reader.inputs[1:3]] == [
            pytest.approx(d.container_scale, rel=1e-7),
            d.zero_point,
        ]
    found = price(made, inputs(16, 2))
    assert list(found) == [d.name for d in learned] and not any("unknown" in layer.reasons for layer in found.values())
    assert found["b.input_1"].elements == 16 * 8 * 9 * 9


def test_a_layer_with_another_bias_shows_alone_and_its_reason_is_not_known() -> None:
    made = fold_case(Case(lambda: three(0), {"weight_bits": 3, "activation_bits": 3}))
    before = price(made, inputs(16, 2))
    model = copy(made.model)
    layer = next(node for node in model.graph if node.name == "0")
    bias = layer.inputs[2].producer()  # type: ignore[union-attr]
    assert bias is not None
    unit = float(constant_of(bias.inputs[1], "bias").min())
    step = next(d.scale for d in made.tensors if d.name == "2.input")
    bias.replace_input_with(
        0, constant(model.graph, "other", constant_of(bias.inputs[0], "bias") + np.int32(0.3 * step / unit))
    )
    after = price(with_changes(made, model=model), inputs(16, 2))
    assert after["2.input"].differing > 0.1 and after["2.input"].reasons["unknown"] > 0.9 * sum(
        after["2.input"].histogram.values()
    )
    assert after["0.input"] == before["0.input"] and after["4.input"].differing < 5e-3
    first = first_differing(tuple(layer for name, layer in after.items() if name != "0.input"))
    assert first is not None and first.name == "2.input"
