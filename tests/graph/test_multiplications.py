"""Multiplications of a folded network, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from lsq_export.graph.multiplications import Multiplications, multiplications
from lsq_export.graph.notes import FLOAT
from support.networks import hand_made


def test_integers_and_floats_are_told_apart() -> None:
    """A convolution of 2 x 3 x 3 weights to 4 x 4 places, and a float product of 4 x 4 with 4 x 5."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], "conv"),
        helper.make_node("MatMul", ["h", "m"], ["y"], "product"),
    ]
    constants = {"w": np.ones((2, 3, 3, 3), np.float32), "m": np.ones((4, 5), np.float32)}
    model = hand_made(nodes, constants, ("batch", 3, 6, 6))
    assert multiplications(model.graph) is None
    FLOAT.write(model.graph[1], "no integer form")
    convolution, product = 2 * 4 * 4 * 3 * 9, 2 * 4 * 5 * 4
    found = multiplications(model.graph)
    assert found == Multiplications(integer=convolution, all=convolution + product)
    assert found.share == pytest.approx(convolution / (convolution + product))


def test_sizes_that_vary_cannot_be_counted() -> None:
    model = hand_made([helper.make_node("Floor", ["x"], ["y"], "f")], {}, ("batch", 3, "height"))
    FLOAT.write(model.graph[0], "no integer form")
    assert multiplications(model.graph) is None
