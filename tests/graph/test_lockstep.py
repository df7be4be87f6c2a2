"""Runs in step: what one made is handed on in the other."""

from __future__ import annotations

import numpy as np
import torch
from onnx import helper

from lsq_export.graph.lockstep import Made, run
from support.networks import hand_made


def test_a_node_is_met_with_what_it_reads_and_makes_and_hands_on_what_it_is_told() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["a"], "double"),
        helper.make_node("Relu", ["a"], ["b"], "clamp"),
        helper.make_node("Add", ["b", "two"], ["y"], "sum"),
    ]
    graph = hand_made(nodes, {"two": np.float32(2)}, ("batch", 3)).graph
    x, seen = torch.tensor([[-1.0, 0.0, 2.0]]), list[Made]()

    def meet(made: Made) -> torch.Tensor:
        seen.append(made)
        return made.value + 10

    (y,) = run(graph, x, {"b": meet})
    assert [made.node.name for made in seen] == ["clamp"]
    assert seen[0].read.tolist() == [[-2, 0, 4]] and seen[0].value.tolist() == [[0, 0, 4]]
    assert y.tolist() == [[12, 12, 16]] and y.dtype == torch.float64
    (untouched,) = run(graph, x, {"b": lambda made: None}, dtype=torch.float32)
    assert untouched.tolist() == [[2, 2, 6]] and untouched.dtype == torch.float32
