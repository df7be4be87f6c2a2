"""Graphs in blocks: every node once, cut where little goes on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsq_export.graph.read import is_marker
from lsq_export.reconstruction.block_values import BlockValues
from lsq_export.reconstruction.blocks import MOST, Block, blocks_of
from support import networks
from support.networks import Case, Conv, Wired, captured, inputs, trained


def _blocks(case: Case | str) -> list[Block]:
    return blocks_of(captured(case).model.graph)


@pytest.mark.parametrize("name", ["residual", "concat", "pools", "twice", "two_outputs", "perceptron"])
def test_blocks_are_the_network(name: str) -> None:
    """Block after block, with every marker as it was trained, is what PyTorch computes."""
    case, model = Case(getattr(networks, name)), trained(Case(getattr(networks, name)))
    graph = networks.quick_capture(model, case.shape).model.graph
    blocks, values, x = blocks_of(graph), BlockValues(), inputs(2, 5, case.shape)
    nodes = [node for block in blocks for node in block.nodes]
    assert len(nodes) == len(set(nodes)) and [n for n in graph if n in set(nodes)] == nodes
    grids = {module.name: module for module in model.modules() if hasattr(module, "qmin")}

    def on_marker(marker: object, given: torch.Tensor) -> torch.Tensor:
        name = marker.attributes["quantizer"].value  # type: ignore[attr-defined]
        return grids[name if name in grids else name.rpartition("_")[0]](given)  # type: ignore[no-any-return,operator]

    state = {graph.inputs[0]: x}
    with torch.no_grad():
        for block in blocks:
            assert set(block.given) == set(state)
            state = values.run(block, state, on_marker)
        made = [state[value] for value in graph.outputs]
        expected = model.eval()(x)
    for ours, theirs in zip(made, expected if isinstance(expected, tuple) else [expected], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5 * float(theirs.abs().max()))


def test_a_residual_network_is_cut_where_one_value_goes_on() -> None:
    blocks = _blocks("residual")
    assert all(len(block.kept) == 1 for block in blocks)
    assert [block.name for block in blocks] == ["stem.Conv", "b.Conv", "down.Conv", "fc.Gemm"]


def _dense() -> nn.Module:
    """Every layer reads the sum of all before it: nowhere does one value alone go on."""

    def forward(s: Wired, x: torch.Tensor) -> torch.Tensor:
        first, other = F.relu(s.c0(x)), F.relu(s.d(x))
        for index in range(1, 2 * MOST):
            first, other = F.relu(getattr(s, f"c{index}")(first + other)), first
        return first + other

    convs = {f"c{index}": Conv(3 if index == 0 else 4, 4, 1) for index in range(2 * MOST)}
    return Wired(forward, d=Conv(3, 4, 1), **convs)


def test_many_layers_without_such_a_place_are_cut_all_the_same() -> None:
    blocks = _blocks(Case(_dense))
    layers = [sum(node.op_type == "Conv" for node in block.nodes) for block in blocks]
    assert sum(layers) == 2 * MOST + 1 and max(layers) <= MOST + 1 and len(blocks) >= 2
    assert any(len(block.kept) == 2 for block in blocks)
    assert all(is_marker(block.nodes[0]) or index == 0 for index, block in enumerate(blocks))
