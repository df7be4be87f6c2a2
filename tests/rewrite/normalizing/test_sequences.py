"""sequences: networks on [N, C, L] compute the same as on images of one row."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch
import torch.nn.functional as F
from onnx import helper
from torch import nn

from lsq_export.graph.evaluate import evaluate
from lsq_export.rewrite.normalizing.sequences import sequences_to_images
from support import networks
from support.forms import exact_form
from support.networks import Wired, hand_made, operators

LENGTH = (3, 16)


def test_what_it_computes_stays_and_rows_go_through() -> None:
    draw = np.random.default_rng(1)
    constants = {
        "w": draw.standard_normal((4, 3, 3)),
        "v": draw.standard_normal((4, 2, 2)),
        "by_channel": draw.standard_normal((4, 1)),
        **{name: draw.random(4) + 0.5 for name in ("gamma", "beta", "mean", "variance")},
    }
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w"], ["a"], "a", kernel_shape=[3], pads=[2, 1], strides=[1], dilations=[1]),
        make("BatchNormalization", ["a", "gamma", "beta", "mean", "variance"], ["b"], "b"),
        make("Relu", ["b"], ["c"], "c"),
        make("MaxPool", ["c"], ["d"], "d", kernel_shape=[2], strides=[2]),
        make("Add", ["d", "by_channel"], ["e"], "e"),
        make("Conv", ["e", "v"], ["f"], "f", kernel_shape=[2], group=2, dilations=[3]),
        make("AveragePool", ["f"], ["g"], "g", kernel_shape=[2]),
        make("Concat", ["g", "g"], ["h"], "h", axis=1),
        make("GlobalAveragePool", ["h"], ["y"], "y"),
    ]
    model = hand_made(nodes, {k: v.astype(np.float32) for k, v in constants.items()}, (2, *LENGTH), ("y", "h"))
    x = draw.standard_normal((2, *LENGTH)).astype(np.float32)
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": x})
    for ours, theirs in zip(evaluate(model.graph, x), expected, strict=True):
        assert np.abs(ours.numpy() - theirs).max() < 1e-5
    sequences_to_images(model)
    for ours, theirs in zip(evaluate(model.graph, x), expected, strict=True):
        assert ours.shape == theirs.shape and np.abs(ours.numpy() - theirs).max() < 1e-5
    assert [value.name for value in model.graph.outputs] == ["y", "h"]
    assert operators(model).count("Unsqueeze") == 1 and operators(model).count("Squeeze") == 2  # an output each


def test_images_and_tokens_are_left_alone() -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["a"], "a", kernel_shape=[2, 2]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    model = hand_made(nodes, {}, (2, 3, 4, 4))
    sequences_to_images(model)
    assert operators(model) == ["MaxPool", "Relu"]
    model = hand_made([helper.make_node("Relu", ["x"], ["y"])], {}, (2, 3, 4))
    sequences_to_images(model)
    assert operators(model) == ["Relu"]


def audio() -> nn.Module:
    """Convolutions that see the past alone, dilated, with a shortcut; a pool; a head."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(s.first(F.pad(x, (2, 0))))
        h = F.relu(s.norm(s.second(F.pad(h, (4, 0)))) + s.shortcut(h))
        return s.head(s.third(F.max_pool1d(h, 2)).flatten(1))

    convolutions = {
        "first": nn.Conv1d(3, 8, 3),
        "second": nn.Conv1d(8, 8, 3, dilation=2, groups=2),
        "shortcut": nn.Conv1d(8, 8, 1),
        "third": nn.Conv1d(8, 4, 3, stride=2, padding=1),
    }
    return Wired(forward, norm=networks.norm(8, nn.BatchNorm1d), head=nn.Linear(16, 5), **convolutions)


def test_an_audio_network() -> None:
    assert exact_form(audio, LENGTH, weight_granularity="channel").count("QLinearConv") == 4


def test_an_autoencoder_of_sequences() -> None:
    def build() -> nn.Module:
        up = nn.ConvTranspose1d(8, 6, 4, 2, 1)
        return nn.Sequential(nn.Conv1d(3, 8, 4, 2, 1), nn.ReLU(), up, nn.ReLU(), nn.Conv1d(6, 3, 3, padding=1))

    assert exact_form(build, LENGTH).count("QLinearConv") == 3


def test_a_network_on_volumes() -> None:
    """Conv3d needs nothing but kernels."""

    def build() -> nn.Module:
        layers = [nn.Conv3d(3, 4, 3, padding=1), networks.norm(4, nn.BatchNorm3d), nn.ReLU(), nn.MaxPool3d(2)]
        more = [nn.Conv3d(4, 4, 3, padding=1), nn.ReLU(), nn.AvgPool3d((1, 2, 2)), nn.ConvTranspose3d(4, 4, 2, 2)]
        return nn.Sequential(*layers, *more, nn.Flatten(), nn.Linear(4 * 4 * 2 * 2, 3))

    operators = exact_form(build, (3, 4, 5, 5))
    assert operators.count("QLinearConv") == 4 and "MaxPool" in operators
