"""dense: convolutions of single pixels in two groups, as one with zeros; the same codes."""

from __future__ import annotations

from typing import Any

import onnx
import torch
from torch import nn

from lsq_export.rewrite.emit import emit
from lsq_export.rewrite.lowering.dense import dense
from lsq_export.rewrite.lowering.qoperator import to_qoperator
from lsq_export.targets import ORT_CPU
from support.differing import differing
from support.networks import LOW, Case, Wired, folded, inputs


def grouped(s: Any, x: torch.Tensor) -> Any:
    return s.last(torch.relu(s.c(torch.relu(s.b(torch.relu(s.a(x)))))).mean((2, 3)))


CASE = Case(
    lambda: Wired(
        grouped,
        a=nn.Conv2d(3, 12, 3, padding=1),
        b=nn.Conv2d(12, 20, 1, groups=2),
        c=nn.Conv2d(20, 20, 1, groups=4),
        last=nn.Linear(20, 4),
    ),
    LOW,
)


def groups(file: onnx.ModelProto) -> list[int]:
    """Of convolutions, and of those that functions of nodes have, in order of the graph."""
    bodies = {function.name: list(function.node) for function in file.functions}
    nodes = [inner for node in file.graph.node for inner in bodies.get(node.op_type, [node])]
    return [a.i for node in nodes if node.op_type == "QLinearConv" for a in node.attribute if a.name == "group"]


def test_two_groups_become_one_and_four_stay() -> None:
    made = folded(CASE)
    assert groups(emit(made.model, "qoperator", ORT_CPU)) == [1, 2, 4]
    assert groups(emit(made.model, "lookup", ORT_CPU)) == [1, 1, 4]
    assert differing(made, inputs(5, 3, spread=3.0).numpy()) == []


def test_each_group_has_its_own_weights() -> None:
    model = to_qoperator(folded(CASE).model)
    (node,) = (n for n in model.graph if n.op_type == "QLinearConv" and n.attributes["group"].value == 2)
    arrays = []
    for _ in range(2):
        weight = node.inputs[3]
        assert weight is not None and weight.const_value is not None
        arrays.append(weight.const_value.numpy())
        dense(model.graph)
    narrow, wide = arrays
    assert wide.shape == (20, 12, 1, 1)
    assert (wide[:10, :6] == narrow[:10]).all() and (wide[10:, 6:] == narrow[10:]).all()
    assert not wide[:10, 6:].any() and not wide[10:, :6].any()
