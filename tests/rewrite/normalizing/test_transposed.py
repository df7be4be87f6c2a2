"""transposed: transposed convolutions of every geometry become convolutions that compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import helper
from torch import nn

from lsq_export.graph.edit import copy
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.read import attribute
from lsq_export.rewrite.normalizing.phases import axis_of
from lsq_export.rewrite.normalizing.transposed import transposed_to_convolutions
from support import networks
from support.forms import exact_form
from support.networks import find, hand_made, operators


def runtime(model: ir.Model, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def transposed(shape: tuple[int, ...], weight: tuple[int, ...], *, norm: bool = False, **geometry: Any) -> ir.Model:
    """shape: [C_in, …] of the input."""
    generator = np.random.default_rng(1)
    channels = weight[1] * geometry.get("group", 1)
    constants = {"w": generator.standard_normal(weight), "b": generator.standard_normal(channels)}
    nodes = [helper.make_node("ConvTranspose", ["x", "w", "b"], ["t" if norm else "y"], "up", **geometry)]
    if norm:
        constants |= {name: generator.random(channels) + 0.5 for name in ("gamma", "beta", "mean", "variance")}
        names = ["t", "gamma", "beta", "mean", "variance"]
        nodes.append(helper.make_node("BatchNormalization", names, ["y"], "norm"))
    return hand_made(nodes, {k: v.astype(np.float32) for k, v in constants.items()}, (2, *shape))


def check(model: ir.Model, shape: tuple[int, ...]) -> ir.Model:
    """Against ONNX Runtime's ConvTranspose."""
    x = np.random.default_rng(2).standard_normal((2, *shape)).astype(np.float32)
    expected, before = runtime(model, x), copy(model)
    transposed_to_convolutions(model)
    assert not find(model, "ConvTranspose")
    for graph in (before.graph, model.graph):  # the float meaning of ConvTranspose, and what became of it
        found = evaluate(graph, x)[0].numpy()
        assert found.shape == expected.shape and np.abs(found - expected).max() < 1e-4
    assert np.abs(runtime(model, x) - expected).max() < 1e-4
    assert [value.name for value in model.graph.outputs] == ["y"]
    return model


@pytest.mark.parametrize("seed", range(24))
def test_every_geometry(seed: int) -> None:
    """1 to 3 axes, groups, strides that differ, dilations, pads beyond the kernel's, output padding."""
    draw = np.random.default_rng(seed)
    spatial, group = int(draw.integers(1, 4)), int(draw.choice([1, 1, 2]))
    kernel, stride, dilation = (draw.integers(1, high, spatial) for high in (5, 4, 3))
    pad = np.array([draw.integers(0, d * (k - 1) + 1) for d, k in zip(dilation, kernel, strict=True)])
    more = draw.integers(0, stride)
    size = draw.integers(6, 9, spatial)
    shape = (2 * group, *map(int, size))
    model = transposed(
        shape,
        (2 * group, 3, *map(int, kernel)),
        norm=bool(seed % 2),
        group=group,
        kernel_shape=kernel.tolist(),
        strides=stride.tolist(),
        dilations=dilation.tolist(),
        pads=[*pad.tolist(), *pad.tolist()],
        output_padding=more.tolist(),
    )
    check(model, shape)


def test_pixels_are_shuffled_where_strides_are_equal() -> None:
    """As wide as is needed, and no wider: three taps of which two are for each phase; one where kernels do not meet."""
    made = check(transposed((4, 5, 6), (4, 3, 4, 4), strides=[2, 2], pads=[1] * 4, kernel_shape=[4, 4]), (4, 5, 6))
    assert operators(made) == ["Conv", "DepthToSpace"]
    assert attribute(find(made, "Conv")[0], "kernel_shape") == (3, 3)
    made = check(transposed((4, 5, 6), (4, 3, 2, 2), strides=[2, 2], kernel_shape=[2, 2], norm=True), (4, 5, 6))
    assert operators(made) == ["Conv", "BatchNormalization", "DepthToSpace"]
    assert attribute(find(made, "Conv")[0], "kernel_shape") == (1, 1) and not any(
        attribute(find(made, "Conv")[0], "pads")
    )


def test_each_tap_has_one_place() -> None:
    axis = axis_of(4, 2, 1, (1, 1), 0)
    assert sorted(axis.taps) == [(0, 1, 0), (0, 3, -1), (1, 0, 1), (1, 2, 0)]
    assert (axis.kernel, axis.pads, axis.beyond) == (3, (1, 1), 0)


def test_a_weight_that_is_computed_is_left_alone() -> None:
    nodes = [helper.make_node("ConvTranspose", ["x", "x"], ["y"], "up", kernel_shape=[3, 3])]
    model = hand_made(nodes, {}, (3, 3, 3, 3))
    transposed_to_convolutions(model)
    assert operators(model) == ["ConvTranspose"]


CASES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "no overlap": (nn.ConvTranspose2d(8, 6, 2, 2), (3, 6, 6)),
    "overlap": (nn.ConvTranspose2d(8, 6, 4, 2, 1), (3, 6, 6)),
    "output padding": (nn.ConvTranspose2d(8, 6, 3, 2, 1, 1, groups=2), (3, 6, 6)),
    "unlike": (nn.ConvTranspose2d(8, 6, (3, 5), (2, 3), (1, 0), (1, 2)), (3, 6, 6)),
}


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("name", CASES)
def test_end_to_end(name: str, granularity: str) -> None:
    """At 4 bits with real offsets: all promises hold, and nothing stays float."""
    layer, shape = CASES[name]

    def build() -> nn.Module:
        last = nn.Conv2d(6, 4, 3, padding=1)
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), layer, networks.norm(6), nn.ReLU(), last)

    operators = exact_form(build, shape, weight_granularity=granularity)
    assert operators.count("QLinearConv") == 3


def test_a_layer_that_is_kept_float_is_a_float_convolution() -> None:
    def build() -> nn.Module:
        up = nn.ConvTranspose2d(8, 6, 4, 2, 1)
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), up, networks.norm(6), nn.Conv2d(6, 4, 3, padding=1))

    assert "Conv" in exact_form(build, (3, 6, 6), islands_expected=["Conv"], layers={"1": "float"})
