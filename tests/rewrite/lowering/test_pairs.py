"""pairs: products and sums of two tensors are one operator with the table behind them; the same codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsq_export.rewrite.emit import emit
from lsq_export.rewrite.lowering import joined
from lsq_export.targets import ORT_CPU
from support.differing import differing
from support.networks import LOW, Case, Wired, folded, inputs
from support.parallel import case_of as merged


def gate(s: Any, x: torch.Tensor) -> torch.Tensor:
    """Squeeze-and-excitation; the product goes on through a clamp."""
    return F.hardtanh(x * torch.sigmoid(s.up(F.relu(s.down(x.mean((2, 3), keepdim=True))))), 0.0, 1.5)


def channels(count: int, *left_out: str) -> dict[str, nn.Module]:
    layers = {
        "a": nn.Conv2d(3, count, 3, padding=1),
        "down": nn.Conv2d(count, 4, 1),
        "up": nn.Conv2d(4, count, 1),
        "b": nn.Conv2d(count, count, 3, padding=1, groups=count),
        "last": nn.Linear(count, 4),
    }
    return {name: layer for name, layer in layers.items() if name not in left_out}


def gated(count: int) -> Case:
    return Case(lambda: Wired(lambda s, x: s.last(s.b(gate(s, F.silu(s.a(x)))).mean((2, 3))), **channels(count)), LOW)


GATE = ("down", "up")
CASES = {
    "gate": gated(8),
    "gate of an odd number of channels": gated(19),
    "gate first": Case(
        lambda: Wired(
            lambda s, x: s.last(torch.sigmoid(s.up(s.down(F.relu(s.a(x)).mean((2, 3), keepdim=True)))) * s.b(s.a(x))),
            **{**channels(6), "last": nn.Conv2d(6, 4, 1)},
        ),
        LOW,
    ),
    "product of images": Case(
        lambda: Wired(
            lambda s, x: s.last(F.relu(s.a(x) * torch.sigmoid(s.b(s.a(x)))).mean((2, 3))), **channels(6, *GATE)
        ),
        LOW,
    ),
    "sum": Case(lambda: Wired(lambda s, x: s.last((s.a(x) + s.b(s.a(x))).mean((2, 3))), **channels(6, *GATE)), LOW),
    "sum with a constant": merged(bits=4),  # convolutions side by side, with offsets of their own
    "sum of vectors": Case(
        lambda: Wired(
            lambda s, x: s.last(F.silu(s.a(x.flatten(1)) + s.b(x.flatten(1)))),
            a=nn.Linear(243, 9),
            b=nn.Linear(243, 9),
            last=nn.Linear(9, 4),
        ),
        LOW,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_that_of_the_qoperator_file(name: str) -> None:
    made = folded(CASES[name])
    file = emit(made.model, "lookup", ORT_CPU)
    kinds = [node.op_type for node in file.graph.node]
    kind = "Sum" if name.startswith("sum") else "Product"
    assert any(found.startswith(kind) for found in kinds) and not {"QLinearMul", "QLinearAdd"} & set(kinds)
    assert {body.name for body in file.functions} == {found for found in kinds if found[-1].isdigit()}
    assert differing(made, inputs(5, 3, spread=3.0).numpy()) == []  # a batch of five


def test_what_a_product_goes_through_is_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """One operator fewer for each, and for convolutions; a table that something else reads, too, is not left out."""
    with_tables = emit(folded(CASES["gate"]).model, "lookup", ORT_CPU)
    monkeypatch.setattr(joined, "_only_lookup", lambda value: None)
    apart = emit(folded(CASES["gate"]).model, "lookup", ORT_CPU)
    assert [sum(n.op_type.startswith("Lookup") for n in m.graph.node) for m in (with_tables, apart)] == [3, 7]
    tables = [tensor for tensor in apart.graph.initializer if tensor.name.startswith("same.")]
    assert [onnx.numpy_helper.to_array(table).tolist() for table in tables] == [np.arange(256).tolist()]


def test_without_the_library_a_gate_is_copied_to_all_pixels() -> None:
    """As in qoperator files, where ONNX Runtime's kernel is faster on that; ours ignores how often."""
    file = emit(folded(gated(8)).model, "lookup", ORT_CPU)
    product = next(node for node in file.graph.node if node.op_type.startswith("Product"))
    body = next(function for function in file.functions if function.name == product.op_type)
    assert [node.op_type for node in body.node][:2] == ["Tile", "QLinearMul"]
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor).tolist() for tensor in file.graph.initializer}
    place = list(body.input).index(body.node[0].input[1])
    _, height, width, _ = (
        d.dim_value
        for d in next(v for v in file.graph.value_info if v.name == product.output[0]).type.tensor_type.shape.dim
    )
    assert constants[product.input[place]] == [1, height, width, 1] and height > 1
