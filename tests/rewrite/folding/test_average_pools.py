"""depthwise: an average pool becomes a convolution with the code 1, where its windows have one size."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import helper

from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.layers import weight_codes, weight_of
from lsq_export.graph.read import array_of, attribute
from lsq_export.rewrite.folding.average_pools import average_pools_to_convolutions
from support.networks import before, difference, find, hand_made, operators, set_constant, values

SCALE_ROUNDING = 2.0**-24  # 1/k² as float32


def pool(shape: tuple[int | str, ...] = ("batch", 3, 9, 8), **attributes: object) -> ir.Model:
    return hand_made([helper.make_node("AveragePool", ["x"], ["y"], "pool", **attributes)], {}, shape)


def test_a_captured_network_stays_as_it_is():
    was, now = before("pools", "average_pools"), before("pools", "average_pools")
    average_pools_to_convolutions(now)
    assert operators(was).count("AveragePool") == 2 and "AveragePool" not in operators(now)
    assert difference(values(was), values(now)) < 4 * SCALE_ROUNDING
    assert [str(node.name) for node in find(now, "Conv")] == ["0", "2.AveragePool", "3", "6", "8.AveragePool", "9"]


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 2], "strides": [1, 2]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        {"kernel_shape": [3, 3], "pads": [1, 0, 1, 0], "count_include_pad": 1},
        {"kernel_shape": [4, 4], "pads": [0, 0, 0, 0], "count_include_pad": 0},
    ],
)
def test_windows_of_one_size(attributes: dict[str, object]):
    x = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0)).double() * 4
    was, now = pool(**attributes), pool(**attributes)
    average_pools_to_convolutions(now)
    expected, found = evaluate(was.graph, x)[0], evaluate(now.graph, x)[0]
    assert found.shape == expected.shape and (found - expected).abs().max() <= 2 * SCALE_ROUNDING * expected.abs().max()
    (conv,) = find(now, "Conv")
    codes, scale = weight_codes(conv)
    assert (codes == 1).all() and codes.shape[:2] == (3, 1) and attribute(conv, "group") == 3
    assert (scale == np.float32(1 / np.prod(attributes["kernel_shape"]))).all() and conv.name == "pool"
    assert now.graph.outputs[0].name == "y"


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},  # the border divides by less
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    ],
)
def test_windows_of_several_sizes_stay(attributes: dict[str, object]):
    model = pool(**attributes)
    average_pools_to_convolutions(model)
    assert operators(model) == ["AveragePool"]


def test_an_unknown_number_of_channels_stays():
    model = pool(shape=("batch", "channels", 9, 8), kernel_shape=[2, 2])
    average_pools_to_convolutions(model)
    assert operators(model) == ["AveragePool"]


def test_uncounted_padding_stays_in_a_captured_network():
    model = before("uncounted", "average_pools")
    average_pools_to_convolutions(model)
    assert "AveragePool" in operators(model)


@pytest.mark.parametrize("what", ["code", "scale"])
def test_sabotage_shows(what: str):
    model = before("pools", "average_pools")
    average_pools_to_convolutions(model)
    dequantize = weight_of(find(model, "Conv")[1])
    index = 0 if what == "code" else 1
    set_constant(dequantize.inputs[index], array_of(dequantize.inputs[index]) * 2)
    assert difference(values(before("pools", "average_pools")), values(model)) > 1e-2
