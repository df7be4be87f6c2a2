"""upsampling: linear interpolation by whole factors becomes convolutions that compute the same."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from torch import nn

from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.read import array_of, is_marker
from lsq_export.rewrite.normalizing.normalize import normalize
from lsq_export.rewrite.normalizing.upsampling import axis_of, to_convolutions
from support.forms import exact_form
from support.networks import Wired, find, hand_made, operators


def resized(factors: tuple[float, ...], shape: tuple[int, ...] = (2, 3, 4, 5), how: str = "half_pixel") -> ir.Model:
    node = helper.make_node(
        "Resize", ["x", "", "scales"], ["y"], "up", mode="linear", coordinate_transformation_mode=how
    )
    return hand_made([node], {"scales": np.array([1, 1, *factors], np.float32)}, shape)


def check(model: ir.Model, shape: tuple[int, ...] = (2, 3, 4, 5)) -> list[str]:
    """Against ONNX Runtime's Resize; the operators afterwards, without the markers of weights."""
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    expected = np.asarray(session.run(None, {"x": x})[0])
    assert np.abs(evaluate(model.graph, x)[0].numpy() - expected).max() < 1e-5  # the float meaning of Resize
    normalize(model)
    found = evaluate(model.graph, x)[0].numpy()
    assert found.shape == expected.shape and np.abs(found - expected).max() < 1e-5
    assert model.graph.outputs[0].name == "y"
    return [name for name in operators(model) if name != "FakeQuantize"]


@pytest.mark.parametrize("how", ["half_pixel", "pytorch_half_pixel", "asymmetric"])
@pytest.mark.parametrize("factors", [(2, 2), (3, 3), (4, 4), (5, 6), (2, 1), (1, 4), (7, 2)])
def test_whole_factors(factors: tuple[int, int], how: str) -> None:
    assert check(resized(factors, how=how)).count("Conv") == 1


@pytest.mark.parametrize("factors", [(8, 8), (16, 8), (32, 32), (9, 2)])
def test_large_factors_take_two_steps(factors: tuple[int, int]) -> None:
    assert check(resized(factors)).count("Conv") == 1 + (max(factors) != 9)


def test_single_rows_and_columns() -> None:
    for shape in ((2, 3, 1, 5), (2, 3, 4, 1), (1, 1, 1, 1)):
        check(resized((2, 3), shape), shape)


def test_corners_where_steps_are_whole() -> None:
    names = ["x", "", "", "sizes"]
    node = helper.make_node("Resize", names, ["y"], "up", mode="linear", coordinate_transformation_mode="align_corners")
    model = hand_made([node], {"sizes": np.array([2, 3, 7, 13])}, (2, 3, 4, 5))
    normalize(model)
    x = np.random.default_rng(2).standard_normal((2, 3, 4, 5)).astype(np.float32)
    expected = F.interpolate(torch.from_numpy(x), size=(7, 13), mode="bilinear", align_corners=True).numpy()
    assert np.abs(evaluate(model.graph, x)[0].numpy() - expected).max() < 1e-5
    assert operators(model).count("Conv") == 1 and operators(model)[-1] == "Slice"


@pytest.mark.parametrize("factor", range(1, 65))
def test_the_weights_of_each_output_are_one(factor: int) -> None:
    for half in (True, False):
        axis = axis_of(factor, half=half)
        assert (axis.numerators.sum(axis=1) == axis.denominator).all() and axis.numerators.min() >= 0
    axis = axis_of(factor, half=False)
    assert [Fraction(int(row[-1]), axis.denominator) for row in axis.numerators][1:] == [
        Fraction(f, factor) for f in range(1, factor)
    ]


def test_codes_are_exact() -> None:
    model = resized((2, 2))
    normalize(model)
    (marker,) = (node for node in model.graph if is_marker(node))
    weight, scale = (array_of(marker.inputs[i]) for i in (0, 1))
    assert weight is not None and scale is not None
    codes = weight / scale
    assert sorted(set(codes.reshape(-1).tolist())) == [0, 1, 3, 9] and float(scale) == 1 / 16
    assert find(model, "Conv")[0].name == "up"


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Resize", ["x", "", "scales"], ["y"], "up", mode="linear"),
        helper.make_node("Resize", ["x", "", "whole"], ["y"], "up", mode="cubic"),
        helper.make_node("Resize", ["x", "", "whole"], ["y"], "up", mode="linear", antialias=1),
    ],
    ids=["not whole", "cubic", "smoothed"],
)
def test_others_have_no_such_form(node: Any) -> None:
    scales = {"scales": np.array([1, 1, 1.5, 2], np.float32), "whole": np.array([1, 1, 2, 2], np.float32)}
    (resize,) = find(hand_made([node], scales, (2, 3, 4, 5)), "Resize")
    assert to_convolutions(resize) is None


def unet() -> nn.Module:
    def forward(s: Any, x: Any) -> Any:
        fine = F.relu(s.first(x))
        coarse = F.relu(s.second(F.max_pool2d(fine, 2)))
        return s.last(F.interpolate(coarse, scale_factor=2, mode="bilinear") + fine)

    return Wired(forward, first=nn.Conv2d(3, 8, 3, padding=1), second=nn.Conv2d(8, 8, 1), last=nn.Conv2d(8, 4, 1))


def test_end_to_end() -> None:
    assert exact_form(unet, (3, 8, 8)).count("QLinearConv") == 4


def test_at_the_output() -> None:
    def build() -> nn.Module:
        up = nn.Upsample(scale_factor=8, mode="bilinear")
        return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), up)

    assert exact_form(build, (3, 5, 5)).count("QLinearConv") == 4
