"""normalize: one form for what exporters write in several ways, exactly, and a refusal by name for the rest."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper
from onnx.reference import ReferenceEvaluator

from calib import QuantizationError
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.notes import FLOAT
from lsq_export.graph.read import attribute
from lsq_export.rewrite.normalizing.normalize import normalize
from support.networks import before, find, hand_made, inputs, operators, trained

X = ("batch", 4, 6, 5)
I64 = np.int64


def node(op: str, *names: str, output: str = "y", name: str = "layer.node", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(names), [output], name, **attributes)


def normalized(model: ir.Model) -> ir.Model:
    """Normalized; equal to what onnx makes of the graph as it was, but for float32 rounding."""
    x = (np.random.default_rng(1).standard_normal((3, 4, 6, 5)) * 3).astype(np.float32)
    expected = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})
    names = [value.name for value in model.graph.outputs]
    normalize(model)
    for ours, theirs in zip(evaluate(model.graph, x, dtype=torch.float32), expected, strict=True):
        assert ours.shape == theirs.shape and np.abs(ours.numpy() - theirs).max() < 1e-5
    assert [value.name for value in model.graph.outputs] == names
    return model


def test_what_does_nothing_goes():
    nodes = [
        node("Identity", "x", output="a"),
        node("Relu", "a", output="b"),
        node("Dropout", "b", output="c"),
        node("Relu", "c"),
    ]
    assert operators(normalized(hand_made(nodes, {}, X))) == ["Relu", "Relu"]


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3, 2]])
def test_a_mean_over_h_and_w(axes: list[int]):
    kept = normalized(hand_made([node("ReduceMean", "x", "axes", keepdims=1)], {"axes": np.array(axes)}, X))
    assert operators(kept) == ["GlobalAveragePool"]
    dropped = normalized(hand_made([node("ReduceMean", "x", "axes", keepdims=0)], {"axes": np.array(axes)}, X))
    assert operators(dropped) == ["GlobalAveragePool", "Flatten"]


def test_an_average_over_everything_is_global_and_another_is_not():
    assert operators(normalized(hand_made([node("AveragePool", "x", kernel_shape=[6, 5])], {}, X))) == [
        "GlobalAveragePool"
    ]
    assert operators(normalized(hand_made([node("AveragePool", "x", kernel_shape=[5, 5])], {}, X))) == ["AveragePool"]


@pytest.mark.parametrize(
    ("op", "order", "clip_inputs"),
    [
        ("Max", "xc", ["x", "c"]),
        ("Max", "cx", ["x", "c"]),
        ("Min", "xc", ["x", None, "c"]),
        ("Min", "cx", ["x", None, "c"]),
    ],
)
@pytest.mark.parametrize("shape", [(), (1,)])
def test_max_and_min_with_a_constant(op: str, order: str, clip_inputs: list[str | None], shape: tuple[int, ...]):
    model = normalized(hand_made([node(op, *order)], {"c": np.full(shape, 0.25, np.float32)}, X))
    (clip,) = find(model, "Clip")
    assert [None if v is None else v.name for v in clip.inputs] == clip_inputs


def test_ceil_mode_goes_where_every_window_is_whole():
    model = normalized(hand_made([node("AveragePool", "x", kernel_shape=[2, 3], strides=[2, 1], ceil_mode=1)], {}, X))
    assert attribute(find(model, "AveragePool")[0], "ceil_mode") == 0


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("size", range(5, 13))
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 1), (3, 2, 1), (3, 3, 0), (2, 2, 0), (4, 3, 1)])
def test_an_average_pool_with_ceil_mode_gets_padding_that_counts_not(
    size: int, kernel: int, stride: int, padding: int, counted: bool
):
    geometry = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4}
    pool = node("AveragePool", "x", ceil_mode=1, count_include_pad=int(counted), **geometry)
    model = hand_made([pool], {}, (1, 2, size, size))
    normalize(model)
    x = inputs(1, 3, (2, size, size)) - 9
    expected = torch.nn.functional.avg_pool2d(x, kernel, stride, padding, ceil_mode=True, count_include_pad=counted)
    torch.testing.assert_close(evaluate(model.graph, x, dtype=torch.float32)[0], expected)
    pool = model.graph[-1]
    assert attribute(pool, "ceil_mode") == 0 and not FLOAT.on(pool)
    # every runtime agrees about this form
    theirs = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x.numpy()})[0]
    assert np.allclose(theirs, expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("size", range(5, 13))
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 1), (3, 2, 1), (3, 3, 0), (2, 3, 1), (3, 2, 0)])
def test_a_max_pool_with_ceil_mode_becomes_one_with_padding(size: int, kernel: int, stride: int, padding: int):
    pool = node("MaxPool", "x", kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4, ceil_mode=1)
    model = hand_made([pool], {}, (1, 2, size, size))
    normalize(model)
    x = inputs(1, 3, (2, size, size)) - 9
    expected = torch.nn.functional.max_pool2d(x, kernel, stride, padding, ceil_mode=True)
    assert torch.equal(evaluate(model.graph, x, dtype=torch.float32)[0], expected)
    (pool,) = model.graph
    assert attribute(pool, "ceil_mode") == 0 and max(attribute(pool, "pads")) < kernel
    # every runtime agrees about this form
    theirs = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x.numpy()})[0]
    assert np.array_equal(theirs, expected.numpy())


STAYS_FLOAT: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray], tuple[Any, ...], str]] = {
    "operator": (
        [node("Ceil", "x")],
        {},
        X,
        "no integer form",
    ),
    "mean over everything": ([node("ReduceMean", "x")], {}, X, "no integer form"),
    "sum over the batch": (
        [node("ReduceSum", "x", "c")],
        {"c": np.array([0, 1])},
        (2, 3),
        "no integer form",
    ),
    "sizes that vary": (
        [node("ReduceMax", "x", "c")],
        {"c": np.array([1])},
        (2, "length", 3),
        "no integer form",
    ),
    "max of two": (
        [node("Relu", "x", output="a", name="relu"), node("Max", "x", "a")],
        {},
        X,
        "no integer form",
    ),
    "max with a vector": (
        [node("Max", "x", "c")],
        {"c": np.zeros(5, np.float32)},
        X,
        "no integer form",
    ),
    "min of three": (
        [node("Min", "x", "c", "c")],
        {"c": np.float32(0)},
        X,
        "no integer form",
    ),
    "computed bound": (
        [node("ReduceMax", "x", output="a", keepdims=0), node("Clip", "x", "a")],
        {},
        X,
        "all inputs but the first must be constants",
    ),
    "wrap": ([node("Pad", "x", "c", mode="wrap")], {"c": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, X, "a Pad of mode wrap"),
    "computed pads": (
        [node("Shape", "x", output="a", name="s"), node("Pad", "x", "a")],
        {},
        X,
        "all inputs but the first must be constants",
    ),
    "bilinear": (
        [node("Resize", "x", "", "c", mode="linear")],
        {"c": np.array([1, 1, 1.5, 2], np.float32)},
        X,
        "a Resize of mode linear",
    ),
    "computed slice": (
        [node("Shape", "x", output="a", name="s"), node("Slice", "x", "a", "a")],
        {},
        X,
        "all inputs but the first must be constants",
    ),
    "concat a constant": (
        [node("Concat", "x", "c", axis=1)],
        {"c": np.arange(60, dtype=np.float32).reshape(2, 1, 6, 5)},  # another one for each sample
        (2, 4, 6, 5),
        "an operand is a constant, which has no grid",
    ),
    "auto_pad": (
        [node("Conv", "x", "c", auto_pad="SAME_UPPER")],
        {"c": np.ones((2, 4, 3, 3), np.float32)},
        X,
        "auto_pad=SAME_UPPER",
    ),
}


@pytest.mark.parametrize("case", STAYS_FLOAT)
def test_what_has_no_integer_form_stays_float_and_says_why(case: str):
    nodes, constants, shape, why = STAYS_FLOAT[case]
    model = hand_made(nodes, constants, shape)
    normalize(model)
    assert FLOAT.read(model.graph[-1]) == why


def test_a_constant_that_a_fixed_batch_repeats_is_added_to_what_was_padded():
    model = hand_made([node("Concat", "x", "c", axis=1)], {"c": np.full((2, 1, 6, 5), 3, np.float32)}, (2, 4, 6, 5))
    plain, x = model.clone(), torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    normalize(model)
    assert [one.op_type for one in model.graph] == ["Pad", "Add"]
    assert torch.equal(evaluate(model.graph, x)[0], evaluate(plain.graph, x)[0])


def test_an_operator_that_nobody_runs_is_refused_by_name():
    with pytest.raises(QuantizationError, match=r"^layer.node: no runtime has the operator lsq_export::Gelu"):
        normalize(hand_made([node("Gelu", "x", domain="lsq_export")], {}, X))


def test_a_clamp_to_computed_bounds_stays_float():
    nodes = [
        node("GlobalAveragePool", "x", output="a"),
        node("Reshape", "a", "s", output="b"),
        node("Clip", "x", "b", name="clamp"),
    ]
    model = hand_made(nodes, {"s": np.zeros(0, I64)}, (1, 1, 6, 5))
    normalize(model)
    assert FLOAT.read(model.graph[-1]) == "all inputs but the first must be constants"


@pytest.mark.parametrize("name", ["residual", "pools", "transposed"])
def test_a_captured_network_stays_the_trained_model(name: str):
    model = before(name, "normalize")
    normalize(model)
    assert "ReduceMean" not in operators(model)
    x = inputs(6, 2, spread=3.0).double()
    with torch.no_grad():
        expected = copy.deepcopy(trained(name)).double()(x)
    assert (evaluate(model.graph, x)[0] - expected).abs().max() < 1e-9 * expected.abs().max()
