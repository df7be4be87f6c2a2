"""gates: copying a gate to all pixels changes no integer."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper

from lsq_export import integer
from lsq_export.rewrite.lowering.tile_gates import tile_gates
from support.single_node import build

U8, F = np.uint8, np.float32
IMAGES, GATES = (2, 5, 4, 3), (2, 5, 1, 1)


def product(first: tuple[int, ...], second: tuple[int, ...]) -> ir.Model:
    constants = {"s": F(0.02), "z": U8(117), "t": F(0.004), "o": U8(3), "u": F(0.009), "p": U8(90)}
    node = helper.make_node(
        "QLinearMul", ["x", "s", "z", "g", "t", "o", "u", "p"], ["y"], "se.Mul", domain="com.microsoft"
    )
    model = ir.from_proto(build([node], {"x": np.zeros(first, U8), "g": np.zeros(second, U8)}, {"y": U8}, constants))
    for value, shape in zip(model.graph.inputs, (first, second), strict=True):
        value.shape = ir.Shape(["N", *shape[1:]])
    return model


def run(model: ir.Model, first: tuple[int, ...], second: tuple[int, ...]) -> np.ndarray:
    """In ONNX Runtime; the integer reference must agree."""
    rng, proto = np.random.default_rng(1), ir.to_proto(model)
    feeds = {"x": rng.integers(0, 256, first).astype(U8), "g": rng.integers(0, 256, second).astype(U8)}
    (found,) = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, feeds
    )
    assert np.array_equal(integer.run(proto, feeds)["y"], found)
    return np.asarray(found)


@pytest.mark.parametrize("shapes", [(IMAGES, GATES), (GATES, IMAGES)], ids=["gate second", "gate first"])
def test_the_same_codes(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    model = product(*shapes)
    expected = run(model, *shapes)
    tile_gates(model.graph)
    assert [node.op_type for node in model.graph] == ["Tile", "QLinearMul"]
    assert np.array_equal(run(model, *shapes), expected) and len(np.unique(expected)) > 20


def test_another_gate_gives_other_codes() -> None:
    """The comparison above can fail."""
    model = product(IMAGES, GATES)
    expected = run(model, IMAGES, GATES)
    tile_gates(model.graph)
    model.graph.initializers["o"].const_value = ir.tensor(U8(4))
    assert not np.array_equal(run(model, IMAGES, GATES), expected)


@pytest.mark.parametrize(
    "shapes", [(IMAGES, IMAGES), (GATES, GATES), (IMAGES, (2, 5, 4, 1)), ((2, 5), (2, 1))], ids=str
)
def test_others_stay(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    model = product(*shapes)
    tile_gates(model.graph)
    assert [node.op_type for node in model.graph] == ["QLinearMul"]


def test_images_of_open_size_stay() -> None:
    model = product(IMAGES, GATES)
    model.graph.inputs[0].shape = ir.Shape(["N", 5, "H", "W"])
    tile_gates(model.graph)
    assert [node.op_type for node in model.graph] == ["QLinearMul"]
