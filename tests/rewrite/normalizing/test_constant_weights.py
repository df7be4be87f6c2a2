"""constant_weights: constants alone decide no node any more, and trained grids stay."""

from __future__ import annotations

import numpy as np
from onnx import helper

from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.read import array_of, attribute, is_marker
from lsq_export.rewrite.normalizing.constant_weights import fold_constants
from support.networks import before, hand_made, inputs, values

W = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)


def test_a_computed_weight_becomes_a_constant():
    nodes = [
        helper.make_node("ReduceMean", ["w"], ["mean"], "mean", axes=[1, 2, 3]),
        helper.make_node("Sub", ["w", "mean"], ["centered"], "centered"),
        helper.make_node("Conv", ["x", "centered"], ["y"], "conv"),
    ]
    model = hand_made(nodes, {"w": W}, (1, 3, 4, 4))
    x = inputs(1, 0, (3, 4, 4))
    expected = evaluate(model.graph, x)[0]
    fold_constants(model)
    (conv,) = model.graph
    assert np.array_equal(array_of(conv.inputs[1]), W - W.mean((1, 2, 3), keepdims=True))
    assert np.allclose(evaluate(model.graph, x)[0], expected, rtol=1e-6)


def test_what_is_random_or_an_output_stays():
    nodes = [
        helper.make_node("RandomNormalLike", ["w"], ["r"], "r"),
        helper.make_node("Neg", ["w"], ["z"], "z"),
        helper.make_node("Add", ["x", "r"], ["y"], "sum"),
    ]
    model = hand_made(nodes, {"w": np.zeros((1, 3), np.float32)}, (1, 3))
    fold_constants(model)
    assert [node.op_type for node in model.graph] == ["RandomNormalLike", "Add"]


def test_trained_grids_stay_and_so_do_values():
    model = before("residual", "constant_weights")
    expected = values(model)
    names = [attribute(node, "quantizer") for node in model.graph if is_marker(node)]
    fold_constants(model)
    assert [attribute(node, "quantizer") for node in model.graph if is_marker(node)] == names
    found = values(model)
    assert all(np.allclose(found[name], expected[name]) for name in expected if name.startswith("output"))
