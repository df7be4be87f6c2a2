"""Outliers of layer norms: in float nothing changes, and 8 bits are enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from calib.initialization import row_errors
from lsq_export import calibrate, export
from lsq_export.adoption.network import OnnxNetwork
from lsq_export.calibrating import DEFAULT
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.read import is_marker
from lsq_export.ptq import smoothing
from lsq_export.ptq.float_file import read_float, with_quantizers

CHANNELS, OUTLIER, WIDE = 16, 3, 256


class WrittenNorm(nn.LayerNorm):
    """A layer norm of small operators, as older files have it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centered = x - x.mean(-1, keepdim=True)
        deviation = (centered.pow(2).mean(-1, keepdim=True) + self.eps).sqrt()
        return centered / deviation * self.weight + self.bias


class Block(nn.Module):
    """A residual sum reads the first norm as well; layers alone read the second one."""

    def __init__(self, norm: type[nn.LayerNorm], outlier: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList([norm(CHANNELS) for _ in range(2)])
        self.layers = nn.ModuleList([nn.Linear(CHANNELS, CHANNELS) for _ in range(3)])
        with torch.no_grad():
            for each in self.norms:
                each.weight[OUTLIER] *= outlier  # type: ignore[index, operator]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norms[0](x)
        z = self.norms[1](y + self.layers[0](y))
        return self.layers[1](z) - self.layers[2](z)  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """One channel before the GELU is far larger than the others."""

    def __init__(self, written: bool) -> None:
        super().__init__()
        self.first, self.second, self.written = nn.Linear(CHANNELS, CHANNELS), nn.Linear(CHANNELS, CHANNELS), written
        with torch.no_grad():
            self.first.weight[OUTLIER] *= 60
            self.second.weight[:, OUTLIER] /= 60

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        y = x * 0.5 * (torch.erf(x / 2**0.5) + 1) if self.written else nn.functional.gelu(x)
        return self.second(y)  # type: ignore[no-any-return]


def data(seed: int, count: int = 16) -> torch.Tensor:
    return torch.randn(count, 6, CHANNELS, generator=torch.Generator().manual_seed(seed))


def file_of(folder: Path, norm: type[nn.LayerNorm] = nn.LayerNorm, outlier: float = 60.0) -> tuple[nn.Module, Path]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net, path = Block(norm, outlier).eval(), folder / "block.onnx"
    return net, written_to(path, net)


def written_to(path: Path, net: nn.Module) -> Path:
    batch = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(net, (data(0),), path, dynamo=True, dynamic_shapes=batch, verbose=False)
    return path


def in_float(model: ir.Model, x: torch.Tensor) -> np.ndarray:
    """Markers hand on what they read."""
    (found,) = evaluate(model.graph, x, on_node=lambda made, read, _: read[0] if is_marker(made.producer()) else None)
    return found.numpy()


def decibel(network: OnnxNetwork, net: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        expected = net(x).double().numpy()
    (found,) = evaluate(network.captured.model.graph, x)
    return float(10 * np.log10(np.square(expected).sum() / np.square(found.numpy() - expected).sum()))


@pytest.mark.parametrize("norm", [nn.LayerNorm, WrittenNorm])
def test_in_float_nothing_changes(norm: type[nn.LayerNorm], tmp_path: Path) -> None:
    net, path = file_of(tmp_path, norm)
    file = with_quantizers(read_float(path), DEFAULT)
    model, samples = file.network.model, list(data(1).split(1))
    before = {str(value.name) for value in model.graph.initializers.values()}
    again = list(smoothing.Smoothing(model, file.plain).smoothed(samples))
    assert all(torch.equal(a, b) for a, b in zip(again, samples, strict=True))
    made = {str(value.name) for value in model.graph.initializers.values()} - before
    assert sum(name.endswith(".weight.smoothed") for name in made) == 3
    x = data(2)
    with torch.no_grad():
        np.testing.assert_allclose(in_float(model, x), net(x).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", [nn.LayerNorm, pytest.param(WrittenNorm, marks=pytest.mark.slow)])
def test_outliers_cost_less(norm: type[nn.LayerNorm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, path = file_of(tmp_path, norm)
    x, samples = data(2, 64), [data(1, 64)]
    network = calibrate(path, samples)
    bundle = export(network, None, tmp_path / "bundle", calibration=samples, sample=False)
    assert bundle.parity is not None and bundle.parity.ok
    islands = [island for island in bundle.manifest["islands"] if "smoothed" in island["name"]]
    if norm is nn.LayerNorm:  # after the one that the sum reads too; written out, it is part of the norm
        assert [island["operator"] for island in islands] == ["Mul"]
    monkeypatch.setattr(smoothing, "WORTH", np.inf)
    assert decibel(network, net, x) > decibel(calibrate(path, samples), net, x) + 3


@pytest.mark.parametrize("written", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_outliers_after_a_gelu_cost_less(written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Mlp(written).eval()
    path, x, samples = written_to(tmp_path / "mlp.onnx", net), data(2, 64), [data(1, 64)]
    network = calibrate(path, samples)
    np.testing.assert_allclose(in_float(network.captured.model, x), net(x).detach().numpy(), rtol=1e-3, atol=1e-3)
    bundle = export(network, None, tmp_path / "bundle", calibration=samples, sample=False)
    assert bundle.parity is not None and bundle.parity.ok
    monkeypatch.setattr(smoothing, "WORTH", np.inf)
    assert decibel(network, net, x) > decibel(calibrate(path, samples), net, x) + 3


def with_rare_outliers(seed: int) -> torch.Tensor:
    """One channel of every twentieth token is larger than what the grid of the least squared error holds."""
    x = torch.randn(16, 40, WIDE, generator=torch.Generator().manual_seed(seed))
    x[:, ::20, OUTLIER] = 6.0
    return x


def test_rare_outliers_that_layers_need_are_not_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.LayerNorm(WIDE), nn.Linear(WIDE, CHANNELS)).eval()
    with torch.no_grad():
        net[1].weight[:, OUTLIER] *= 8
    x, samples, path = with_rare_outliers(2), [with_rare_outliers(1)], tmp_path / "rare.onnx"
    batch = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(net, (x[:2],), path, dynamo=True, dynamic_shapes=batch, verbose=False)
    config = replace(DEFAULT, activation_bits=6, first_last_bits=None)
    wide = decibel(calibrate(path, samples, config), net, x)
    monkeypatch.setattr(row_errors, "WIDER", ())
    assert wide > decibel(calibrate(path, samples, config), net, x) + 3


def test_networks_without_outliers_stay_as_they_are(tmp_path: Path) -> None:
    _, path = file_of(tmp_path, outlier=1.0)
    file = with_quantizers(read_float(path), DEFAULT)
    before = [(node.op_type, [str(x.name) for x in node.inputs if x is not None]) for node in file.network.model.graph]
    list(smoothing.Smoothing(file.network.model, file.plain).smoothed([data(1)]))
    after = [(node.op_type, [str(x.name) for x in node.inputs if x is not None]) for node in file.network.model.graph]
    assert before == after


@pytest.mark.parametrize("size", [1, 5])
def test_any_batches_give_the_same_file(size: int, tmp_path: Path) -> None:
    _, path = file_of(tmp_path)
    x = data(1)
    graphs = [calibrate(path, batches).captured.model for batches in ([x], x.flip(0).split(size))]
    first, second = ({str(v.name): v.const_value.numpy() for v in g.graph.initializers.values()} for g in graphs)  # type: ignore[union-attr]
    assert first.keys() == second.keys() and any("smoothed" in name for name in first)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_factors_against_the_formula() -> None:
    largest, weight = np.array([1.0, 100.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0, 1.0])
    found = list(smoothing.factors(largest, weight))
    assert len(found) == len(smoothing.STRENGTHS)
    for factor, a in zip(found, smoothing.STRENGTHS, strict=True):
        ratio = largest**a / weight ** (1 - a)
        np.testing.assert_allclose(factor, ratio / ratio.prod() ** (1 / 4))
        assert factor.prod() == pytest.approx(1)


def test_layers_of_other_bits_after_one_norm_have_factors_of_their_own(tmp_path: Path) -> None:
    _, path = file_of(tmp_path)
    names = [node.name for node in read_float(path).graph if node.op_type in ("Gemm", "MatMul")]
    network = calibrate(path, [data(1)], replace(DEFAULT, layers={str(names[-1]): 6}))
    made = [str(value.name) for node in network.captured.model.graph for value in node.outputs]
    assert len(set(made)) == len(made) and sum(name.endswith(".smoothed") for name in made) == 3
    bundle = export(network, None, tmp_path / "bundle", calibration=[data(1)], sample=False)
    assert bundle.parity is not None and bundle.parity.ok
