"""stem: more channels change no integer."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from lsq_export import integer
from lsq_export.rewrite.lowering.widen_stem import widen_stem
from support.single_node import build

U8, S8, F = np.uint8, np.int8, np.float32
SHAPE = (2, 3, 12, 10)


def convolution(
    kernel: tuple[int, int], pads: list[int], *, channels: int = 3, container: type = S8, **attributes: object
) -> ir.Model:
    rng = np.random.default_rng(0)
    low, high = (-64, 65) if container is S8 else (0, 256)
    zeros = np.zeros(5, S8) if container is S8 else np.array([128, 127, 128, 128, 127], U8)
    constants = {
        "s": F(0.02),
        "z": U8(117),
        "w": rng.integers(low, high, (5, channels, *kernel)).astype(container),
        "sw": rng.uniform(0.005, 0.02, 5).astype(F),
        "zw": zeros,
        "t": F(0.4),
        "o": U8(99),
        "b": rng.integers(-300, 300, 5).astype(np.int32),
    }
    options = {"kernel_shape": list(kernel), "pads": pads, "strides": [2, 2]} | attributes
    node = helper.make_node("QLinearConv", ["x", "s", "z", "w", "sw", "zw", "t", "o", "b"], ["y"], "conv", **options)
    shape = (SHAPE[0], channels, *SHAPE[2:])
    model = ir.from_proto(build([node], {"x": np.zeros(shape, U8)}, {"y": U8}, constants))
    model.graph.inputs[0].shape = ir.Shape(shape)
    return model


def run(model: ir.Model, channels: int = 3) -> np.ndarray:
    x = np.random.default_rng(1).integers(0, 256, (SHAPE[0], channels, *SHAPE[2:])).astype(U8)
    return integer.run(ir.to_proto(model), {"x": x})["y"]


def weights_of(model: ir.Model, index: int) -> np.ndarray:
    """An input of the convolution."""
    value = next(node for node in model.graph if node.op_type == "QLinearConv").inputs[index]
    return model.graph.initializers[value.name].const_value.numpy()


@pytest.mark.parametrize(
    ("kernel", "pads"), [((3, 3), [1, 1, 1, 1]), ((7, 7), [3, 3, 3, 3]), ((2, 2), [0, 0, 0, 0]), ((4, 3), [1, 0, 2, 1])]
)
@pytest.mark.parametrize("strides", [[1, 1], [2, 2]])
@pytest.mark.parametrize("container", [S8, U8])
def test_the_same_codes(kernel: tuple[int, int], pads: list[int], strides: list[int], container: type) -> None:
    model = convolution(kernel, pads, strides=strides, container=container)
    expected = run(model)
    widen_stem(model.graph)
    assert [node.op_type for node in model.graph] == ["Gather", "QLinearConv"]
    assert np.array_equal(run(model), expected) and len(np.unique(expected)) > 20
    w, zeros = (weights_of(model, i) for i in (3, 5))
    assert w.dtype == zeros.dtype == np.int8 and not zeros.any() and np.abs(w.astype(int)).max() <= 64  # E7
    assert w.shape[1] == (4 if container is S8 else 8)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 254, 255])
def test_every_uint8_weight_has_halves(value: int) -> None:
    model = convolution((3, 3), [1, 1, 1, 1], container=U8)
    model.graph.initializers["w"].const_value = ir.tensor(np.full((5, 3, 3, 3), value, U8))
    expected = run(model)
    widen_stem(model.graph)
    assert np.array_equal(run(model), expected) and np.abs(weights_of(model, 3).astype(int)).max() <= 64


def test_a_widen_stem_with_weights_changes_codes() -> None:
    """The comparison above can fail."""
    model = convolution((3, 3), [1, 1, 1, 1])
    expected = run(model)
    widen_stem(model.graph)
    weights_of(model, 3)[:, 3] = 1
    assert not np.array_equal(run(model), expected)


@pytest.mark.parametrize(
    ("channels", "options"),
    [(8, {}), (4, {}), (1, {}), (3, {"kernel_shape": [1, 1]}), (1, {"group": 3})],
    ids=["8", "4", "1", "one tap", "depthwise"],
)
def test_others_stay(channels: int, options: dict[str, Any]) -> None:
    kernel = (1, 1) if "kernel_shape" in options else (3, 3)
    model = convolution(kernel, [0, 0, 0, 0], channels=channels, **options)
    widen_stem(model.graph)
    assert [node.op_type for node in model.graph] == ["QLinearConv"]
