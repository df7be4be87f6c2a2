"""Layers that a forward calls as functions, and layers that make their weight: quantized as any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import calib
import lsq_export
from lsq_export.qat.made_weights import makes_weight
from support.networks import inputs

pytestmark = pytest.mark.filterwarnings("ignore:layers that stay float, since they have no integer form. embedding")
EIGHT = lsq_export.QATConfig(weight_bits=8, activation_bits=8)


class Functions(nn.Module):
    """Convolutions, a transposed one and products with parameters, the last one tied to an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.conv = nn.Parameter(torch.randn(6, 2, 3, 3) / 4)
        self.up = nn.Parameter(torch.randn(6, 4, 2, 2) / 4)
        self.bias = nn.Parameter(torch.randn(4) / 4)
        self.mix = nn.Parameter(torch.randn(4, 8) / 2)
        self.embedding = nn.Embedding(5, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(F.conv2d(self.stem(x), self.conv, padding=1, groups=2))
        y = F.relu(F.conv_transpose2d(y, self.up, self.bias, stride=2))
        y = F.relu(y.mean((2, 3)) @ self.mix)
        return F.linear(y, self.embedding.weight)


class Borrowed(nn.Module):
    """A Linear of which only the weight is used, as in BEiT."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, 6, bias=False), nn.Linear(6, 5)
        self.q_bias, self.v_bias = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = torch.cat((self.q_bias, self.v_bias))
        return self.head(F.relu(F.linear(input=self.stem(x).mean((2, 3)), weight=self.qkv.weight, bias=bias)))


class StdConv2d(nn.Conv2d):
    """A standardized weight, as in BiT and NFNet, computed by a batch norm of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ByHand(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, std = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, (self.weight - mean) / (std + 1e-5), self.bias, padding=1)


class Padded(nn.Conv2d):
    """Its weight is its parameter."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias)


def made_weights() -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        normed = torch.nn.utils.weight_norm(nn.Conv2d(6, 6, 1))
    spectral = torch.nn.utils.spectral_norm(nn.Conv2d(6, 6, 1))
    layers = [StdConv2d(3, 6, 3, padding=1), nn.ReLU(), ByHand(6, 6, 3), nn.ReLU(), normed, nn.ReLU(), spectral]
    return nn.Sequential(*layers, nn.ReLU(), Padded(6, 4, 2))


def weight_quantizers(model: nn.Module) -> list[str]:
    return [name for name in lsq_export.quantizers(model) if name.endswith(".weight")]


def held(model: nn.Module, folder: Path) -> lsq_export.Bundle:
    """Initialized and exported; ONNX Runtime gives what the fake-quant model gives in float64, to 8 bits."""
    x, test = inputs(16, 1), inputs(8, 2)
    calib.initialize(model, [x])
    bundle = lsq_export.export(model.eval(), x[:1], folder, calibration=[x], formats=["qoperator"])
    parity = lsq_export.verify(model, bundle, [test])
    assert parity.ok and not parity.formats["qoperator"].islands, parity.failures
    session = ort.InferenceSession(bundle.models["qoperator"], providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: test.numpy()})
    with torch.no_grad():
        expected = model(test).double().numpy()
    noise = ((found - expected) ** 2).sum() / (expected**2).sum()
    assert 10 * np.log10(noise) < -28
    return bundle


def test_functions_are_trained_as_modules_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = lsq_export.prepare(Functions().eval(), EIGHT)
    called = ["conv2d", "conv_transpose2d", "matmul", "linear"]
    names = weight_quantizers(model)
    assert names == ["stem.weight", *(f"functional.{name}.weight" for name in called)]
    bundle = held(model, tmp_path / "out")
    assert {layer["name"] for layer in bundle.manifest["layers"]} >= {name.removesuffix(".weight") for name in names}
    model.train()(inputs(4, 1)).sum().backward()
    assert all(lsq_export.quantizers(model)[name].scale.grad is not None for name in names)
    assert model.embedding.weight.grad is not None


def test_a_borrowed_weight_has_the_settings_of_its_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = lsq_export.QATConfig(weight_bits=8, activation_bits=8, layers={"qkv": {"weight_bits": 7}})
    model = lsq_export.prepare(Borrowed().eval(), config)
    assert lsq_export.quantizers(model)["functional.linear.weight"].bits == 7
    held(model, tmp_path / "out")


def test_a_scale_for_each_channel_of_a_function(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = lsq_export.QATConfig(weight_bits=8, activation_bits=8, weight_granularity="channel")
    model = lsq_export.prepare(Functions().eval(), config)
    channels = [lsq_export.quantizers(model)[name].scale.numel() for name in weight_quantizers(model)]
    assert channels == [4, 6, 4, 8, 5]
    held(model, tmp_path / "out")


def test_without_trained_edges_functions_are_calibrated(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = lsq_export.QATConfig(weight_bits=8, activation_bits=8, edges="calibrated")
    model = lsq_export.prepare(Functions().eval(), config)
    assert weight_quantizers(model) == ["stem.weight"]
    held(model, tmp_path / "out")


def test_made_weights_are_quantized_where_they_are_multiplied(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = made_weights().eval()
    assert [makes_weight(layer) for layer in net if not isinstance(layer, nn.ReLU)] == [True, True, True, True, False]
    model = lsq_export.prepare(net, EIGHT)
    assert weight_quantizers(model) == [f"{index}.weight" for index in (0, 2, 4, 6, 8)]
    held(model, tmp_path / "out")
    model.train()(inputs(4, 1)).sum().backward()
    assert all(lsq_export.quantizers(model)[name].scale.grad is not None for name in weight_quantizers(model))


@pytest.mark.parametrize("build", [lambda: nn.Conv2d(3, 4, 3), lambda: Padded(3, 4, 2), lambda: nn.Linear(3, 4)])
def test_a_parameter_is_no_made_weight(build: Callable[[], nn.Module]) -> None:
    assert not makes_weight(build())


def test_a_grid_without_a_layer_before_it_holds_zero() -> None:
    """As that of a module does: no bias before it carries an offset, and integer kernels have a real zero."""
    weight = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))

    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.weight = nn.Linear(6, 6), nn.Parameter(weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.linear(torch.sigmoid(self.first(x)), self.weight)

    for bits, wanted in ((8, True), (4, False)):
        config = lsq_export.QATConfig(weight_bits=bits, activation_bits=bits, first_last_bits=None)
        found = lsq_export.quantizers(lsq_export.prepare(Called(), config))
        assert found["functional.linear.input"].holds_zero == wanted
