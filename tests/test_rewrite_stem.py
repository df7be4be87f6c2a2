"""stem: blocks of pixels as channels give the same integers as the strided convolution."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper
from single_node import build

from lsq_export import integer
from lsq_export.rewrite.stem import blocks_as_channels

U8, S8, F = np.uint8, np.int8, np.float32
SHAPE = (2, 3, 12, 10)


def convolution(kernel: tuple[int, int], pads: list[int], *, channels: int = 3, container: type = S8, **attributes: object) -> ir.Model:
    rng = np.random.default_rng(0)
    low, high = (-64, 65) if container is S8 else (0, 256)
    zeros = np.zeros(5, S8) if container is S8 else np.array([128, 127, 128, 128, 127], U8)
    constants = {
        "s": F(0.02), "z": U8(117), "w": rng.integers(low, high, (5, channels, *kernel)).astype(container),
        "sw": rng.uniform(0.005, 0.02, 5).astype(F),
        "zw": zeros, "t": F(0.4), "o": U8(99), "b": rng.integers(-300, 300, 5).astype(np.int32),
    }  # fmt: skip
    options = {"kernel_shape": list(kernel), "pads": pads, "strides": [2, 2]} | attributes
    node = helper.make_node("QLinearConv", ["x", "s", "z", "w", "sw", "zw", "t", "o", "b"], ["y"], "conv", **options)
    shape = (SHAPE[0], channels, *SHAPE[2:])
    model = ir.from_proto(build([node], {"x": np.zeros(shape, U8)}, {"y": U8}, constants))
    model.graph.inputs[0].shape = ir.Shape(shape)
    return model


def run(model: ir.Model, channels: int = 3) -> np.ndarray:
    x = np.random.default_rng(1).integers(0, 256, (SHAPE[0], channels, *SHAPE[2:])).astype(U8)
    return integer.run(ir.to_proto(model), {"x": x})["y"]


@pytest.mark.parametrize("container", [S8, U8])
@pytest.mark.parametrize(
    ("kernel", "pads"),
    [((3, 3), [1, 1, 1, 1]), ((7, 7), [3, 3, 3, 3]), ((2, 2), [0, 0, 0, 0]), ((4, 3), [1, 0, 2, 1]), ((3, 5), [0, 2, 1, 2]), ((6, 2), [2, 1, 2, 0])],
)
def test_the_same_codes(kernel: tuple[int, int], pads: list[int], container: type) -> None:
    model = convolution(kernel, pads, container=container)
    expected = run(model)
    blocks_as_channels(model.graph)
    assert [node.op_type for node in model.graph] == ["SpaceToDepth", "QLinearConv"]
    assert np.array_equal(run(model), expected) and len(np.unique(expected)) > 20


@pytest.mark.parametrize(
    ("channels", "options"),
    [(8, {}), (3, {"strides": [1, 1]}), (3, {"dilations": [2, 2]}), (3, {"strides": [2, 1]}), (3, {"kernel_shape": [1, 1]})],
)
def test_others_stay(channels: int, options: dict[str, object]) -> None:
    kernel = (1, 1) if "kernel_shape" in options else (3, 3)
    model = convolution(kernel, [0, 0, 0, 0], channels=channels, **options)
    blocks_as_channels(model.graph)
    assert [node.op_type for node in model.graph] == ["QLinearConv"]


def test_odd_sizes_stay() -> None:
    model = convolution((3, 3), [1, 1, 1, 1])
    model.graph.inputs[0].shape = ir.Shape((2, 3, 11, 10))
    blocks_as_channels(model.graph)
    assert [node.op_type for node in model.graph] == ["QLinearConv"]
