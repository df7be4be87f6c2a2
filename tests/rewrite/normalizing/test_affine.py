"""affine: what is added to a convolution's output, or multiplied by it, goes into the layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from lsq_export.graph.evaluate import evaluate
from lsq_export.rewrite.normalizing.affine import fold_affine
from support.networks import hand_made, operators

make = helper.make_node
RANDOM = np.random.default_rng(5)
W = RANDOM.standard_normal((4, 3, 3, 3)).astype(np.float32)
PER_CHANNEL = RANDOM.standard_normal((4, 1, 1)).astype(np.float32)


def folded(nodes: list[Any], **constants: Any) -> list[str]:
    """The operators that are left; they compute the same."""
    model = hand_made(nodes, {"w": W} | constants, ("batch", 3, 6, 6))
    x = np.random.default_rng(6).standard_normal((2, 3, 6, 6)).astype(np.float32)
    before = evaluate(model.graph, x)[0].numpy()
    fold_affine(model)
    assert np.abs(evaluate(model.graph, x)[0].numpy() - before).max() <= 1e-5 * np.abs(before).max()
    return operators(model)


@pytest.mark.parametrize("c", [np.float32(0.7), PER_CHANNEL, PER_CHANNEL[None], np.full((1,), -2, np.float32)])
@pytest.mark.parametrize("biased", [False, True])
def test_sums(c: np.ndarray, biased: bool) -> None:
    conv = make("Conv", ["x", "w", "b"] if biased else ["x", "w"], ["h"])
    assert folded([conv, make("Add", ["c", "h"], ["y"])], b=np.float32([1, 2, 3, 4]), c=c) == ["Conv"]


@pytest.mark.parametrize("c", [np.float32(-0.7), PER_CHANNEL])
def test_products_and_then_sums(c: np.ndarray) -> None:
    """A learned affine block: the batch norm that is left goes into the weights' scales."""
    nodes = [make("Conv", ["x", "w"], ["h"]), make("Mul", ["h", "c"], ["p"]), make("Relu", ["p"], ["y"])]
    assert folded(nodes, c=c) == ["Conv", "BatchNormalization", "Relu"]


def test_a_sum_after_a_product_goes_into_the_norm() -> None:
    nodes = [make("Conv", ["x", "w"], ["h"]), make("Mul", ["h", "c"], ["p"]), make("Add", ["p", "d"], ["y"])]
    assert folded(nodes, c=np.float32(2), d=PER_CHANNEL) == ["Conv", "BatchNormalization"]


def test_through_operators_that_leave_channels_alone() -> None:
    nodes = [
        make("Conv", ["x", "w"], ["h"]),
        make("Slice", ["h", "start", "end", "axes"], ["s"]),
        make("Squeeze", ["s", "axis"], ["q"]),
        make("Add", ["q", "c"], ["y"]),
    ]
    numbers = {"start": np.array([0, 1]), "end": np.array([9, 2]), "axes": np.array([1, 3]), "axis": np.array([3])}
    assert folded(nodes, c=PER_CHANNEL[:, 0], **numbers) == ["Conv", "Slice", "Squeeze"]


@pytest.mark.parametrize(
    ("nodes", "c"),
    [
        ([make("Add", ["h", "c"], ["y"])], np.ones((4, 4), np.float32)),  # another number at each place
        ([make("Mul", ["h", "c"], ["y"])], np.zeros(1, np.float32)),
        ([make("Add", ["h", "c"], ["a"]), make("Mul", ["a", "h"], ["y"])], np.float32(1)),  # read twice
        ([make("Slice", ["h", "c0", "c1", "c1"], ["s"]), make("Add", ["s", "c"], ["y"])], PER_CHANNEL[:1]),
    ],
)
def test_what_is_no_affine_function_of_channels_stays(nodes: list[Any], c: np.ndarray) -> None:
    indices = {"c0": np.array([0]), "c1": np.array([1])}
    assert len(folded([make("Conv", ["x", "w"], ["h"]), *nodes], c=c, **indices)) == 1 + len(nodes)


def test_the_bias_of_a_product_of_matrices_gets_one_axis() -> None:
    nodes = [make("MatMul", ["x", "m"], ["h"]), make("Add", ["h", "c"], ["y"])]
    numbers = {"m": RANDOM.standard_normal((6, 5)).astype(np.float32), "c": np.ones((1, 1, 1, 5), np.float32)}
    model = hand_made(nodes, numbers, ("batch", 3, 6, 6))
    fold_affine(model)
    total = next(node for node in model.graph if node.op_type == "Add")
    assert isinstance(model, ir.Model) and [len(v.shape or ()) for v in total.inputs if v is not None] == [4, 1]
