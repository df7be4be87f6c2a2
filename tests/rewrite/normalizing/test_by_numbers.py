"""by_numbers: functions that are written out are recognized by what they compute; what is nearly one is left alone.

The oracle is ONNX Runtime on the graph as it was written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper

from lsq_export.graph.edit import clean
from lsq_export.rewrite.normalizing.by_numbers import recognize
from support.networks import hand_made, operators

make = helper.make_node


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def recognized(model: ir.Model, scale: float = 1.0) -> list[str]:
    """The operators that are left; what they compute is what was written."""
    model.graph.opset_imports.pop("lsq_export", None)
    shape = [size if isinstance(size, int) else 5 for size in model.graph.inputs[0].shape or ()]
    x = ((np.random.default_rng(0).standard_normal(shape) + 0.3) * scale).astype(np.float32)
    before = run(model, x)
    recognize(model.graph)
    clean(model)
    assert np.abs(run(model, x) - before).max() < 2e-4 * np.abs(before).max()
    return operators(model)


def gelu(cubic: float = 0.044715, half_first: bool = False) -> ir.Model:
    constants: dict[str, Any] = {"a": np.float32(cubic), "b": np.float32(0.7978846), "h": np.float32(0.5)}
    end = (
        [make("Mul", ["x", "h"], ["hx"]), make("Mul", ["hx", "one_t"], ["y"])]
        if half_first
        else [make("Mul", ["one_t", "h"], ["ht"]), make("Mul", ["x", "ht"], ["y"])]
    )
    nodes = [
        make("Mul", ["x", "x"], ["xx"]),
        make("Mul", ["xx", "x"], ["xxx"]),
        make("Mul", ["a", "xxx"], ["axxx"]),
        make("Add", ["x", "axxx"], ["sum"]),
        make("Mul", ["sum", "b"], ["in"]),
        make("Tanh", ["in"], ["t"]),
        make("Add", ["one", "t"], ["one_t"]),
        *end,
    ]
    return hand_made(nodes, constants | {"one": np.ones((1, 1), np.float32)}, ("batch", 3, 6))


@pytest.mark.parametrize("half_first", [False, True])
def test_a_gelu_of_tanh(half_first: bool) -> None:
    assert recognized(gelu(half_first=half_first)) == ["Gelu"]


def test_another_cubic_factor_is_no_gelu() -> None:
    assert "Tanh" in recognized(gelu(0.06))


def norm(axis: int, along: int, *, by_squares: bool, epsilon: float = 1e-5) -> ir.Model:
    """(x - mean)·γ/√(variance + ε) + β, the variance by the mean of squares or by that of (x - mean)²."""
    random = np.random.default_rng(3)
    size = [1, 1, 1]
    size[along] = (4, 8)[along - 1]
    constants: dict[str, Any] = {
        "axes": np.array([axis]),
        "e": np.float32(epsilon),
        "g": random.uniform(0.5, 2, size).astype(np.float32),
        "b": random.standard_normal(size).astype(np.float32),
        "two": np.float32(2),
        "zero": np.float32(0),
    }
    variance = (
        [
            make("Mul", ["x", "x"], ["xx"]),
            make("ReduceMean", ["xx", "axes"], ["mxx"]),
            make("Mul", ["m", "m"], ["mm"]),
            make("Sub", ["mxx", "mm"], ["v0"]),
            make("Max", ["v0", "zero"], ["v"]),
        ]
        if by_squares
        else [make("Pow", ["d", "two"], ["dd"]), make("ReduceMean", ["dd", "axes"], ["v"])]
    )
    nodes = [
        make("ReduceMean", ["x", "axes"], ["m"]),
        make("Sub", ["x", "m"], ["d"]),
        *variance,
        make("Add", ["v", "e"], ["ve"]),
        make("Sqrt", ["ve"], ["s"]),
        make("Reciprocal", ["s"], ["r"]),
        make("Mul", ["r", "g"], ["rg"]),
        make("Mul", ["d", "rg"], ["dn"]),
        make("Add", ["dn", "b"], ["y"]),
    ]
    return hand_made(nodes, constants, ("batch", 4, 8))


@pytest.mark.parametrize("by_squares", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.003])
def test_a_norm_over_the_last_axis(by_squares: bool, scale: float) -> None:
    """Of inputs so small that ε decides, too."""
    assert recognized(norm(2, 2, by_squares=by_squares), scale) == ["LayerNormalization"]


@pytest.mark.parametrize(("axis", "along"), [(1, 2), (1, 1), (2, 1)])
def test_a_norm_over_another_axis_than_its_factors(axis: int, along: int) -> None:
    found = recognized(norm(axis, along, by_squares=True, epsilon=1e-3), 0.05)
    turned = ["Transpose", "LayerNormalization", "Transpose"] if axis == 1 else ["LayerNormalization"]
    assert found == [*turned, "Mul", "Add"]


def test_a_norm_without_its_mean_is_none() -> None:
    model = norm(2, 2, by_squares=False)
    product = next(node for node in model.graph if node.outputs[0].name == "dn")
    product.replace_input_with(0, model.graph.inputs[0])  # x/σ in place of (x - mean)/σ
    assert "LayerNormalization" not in recognized(model)


def softmax(*, shifted: float = 0.0) -> ir.Model:
    constants: dict[str, Any] = {"axes": np.array([2]), "c": np.float32(shifted)}
    nodes = [
        make("ReduceMax", ["x", "axes"], ["m"]),
        make("Sub", ["x", "m"], ["d"]),
        make("Exp", ["d"], ["e"]),
        make("ReduceSum", ["e", "axes"], ["s"]),
        make("Add", ["s", "c"], ["sc"]),
        make("Div", ["e", "sc"], ["y"]),
    ]
    return hand_made(nodes, constants, ("batch", 4, 8))


def test_a_softmax() -> None:
    assert recognized(softmax()) == ["Softmax"]


def test_one_that_does_not_sum_to_one_is_none() -> None:
    assert "Exp" in recognized(softmax(shifted=1.0))


@pytest.mark.parametrize("other", [False, True])
def test_an_expand_to_the_same_shape_is_idle(other: bool) -> None:
    nodes = [make("Shape", ["x"], ["shape"]), make("Expand", ["r", "shape"], ["w"]), make("Add", ["x", "w"], ["y"])]
    first = make("ReduceMax", ["x", "axes"], ["r"]) if other else make("Relu", ["x"], ["r"])
    model = hand_made([first, *nodes], {"axes": np.array([1])}, ("batch", 4, 8))
    for node in model.graph:
        if node.op_type == "Expand":
            node.outputs[0].shape = ir.Shape(["batch", 4, 8])
    assert ("Expand" in recognized(model)) == other
