"""calib.initialize: the closed forms, the search against brute force, and bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import calib
from calib import QuantizationError
from calib.initialize import activation_grid
from calib.observers import Observer, Points
from calib.search import best_grid
from lsq_export.prepare import QATConfig, prepare, quantizers
from lsq_export.quantizer import ACTIVATION_GRIDS, Quantizer


def normal(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=count)


SAMPLES = {
    "gaussian": normal(4000) * 1.3 + 0.4,
    "relu": np.maximum(normal(4000), 0),
    "silu": (lambda x: x / (1 + np.exp(-x)))(2 * normal(4000)),
    "heavy tail": np.random.default_rng(1).standard_t(2.5, size=4000),
    "two scales": np.where(normal(4000) > 0.5, 10.0, 0.1) * normal(4000),  # several valleys: the widest is not the deepest
    "one-sided": np.random.default_rng(2).uniform(2, 3, size=4000),
}


def mean_squared_error(x: np.ndarray, s: float, b: float, n: int, p: int) -> float:
    return float(((np.clip(np.round((x - b) / s), n, p) * s + b - x) ** 2).mean())


def brute_force(x: np.ndarray, n: int, p: int, symmetric: bool) -> float:
    """Smallest error over a dense grid of clipping ranges, refined four times around the three best."""
    if symmetric:
        top = np.abs(x).max() / p
        return min(mean_squared_error(x, s, 0.0, n, p) for s in np.linspace(top / 300, top, 900))

    def error(low: float, high: float) -> float:
        s = (high - low) / (p - n)
        return mean_squared_error(x, s, low - n * s, n, p)

    lows, highs = np.linspace(x.min(), np.quantile(x, 0.45), 24), np.linspace(np.quantile(x, 0.55), x.max(), 32)
    best = sorted((error(a, h), a, h) for a in lows for h in highs if h > a)[:3]
    reach = (x.max() - x.min()) / 24
    for _ in range(4):
        steps = np.linspace(-reach, reach, 7)
        around = [(error(a + i, h + j), a + i, h + j) for _, a, h in best for i in steps for j in steps if h + j > a + i]
        best, reach = sorted(best + around)[:3], reach / 3
    return best[0][0]


def observed(x: np.ndarray, batches: int = 4) -> Observer:
    observer = Observer("a.input")
    for part in np.array_split(x.astype(np.float32), batches):
        observer.update(torch.from_numpy(part))
    return observer


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("grid", ["unsigned-asymmetric", "signed-symmetric"])
def test_mse_reaches_brute_force(kind, bits, grid):
    x = SAMPLES[kind].astype(np.float32).astype(np.float64)
    quantizer = Quantizer.activation("a.input", bits, grid=grid)
    s, b = activation_grid(quantizer, observed(x), "mse")
    found = mean_squared_error(x, s, b, quantizer.qmin, quantizer.qmax)
    assert found <= 1.01 * brute_force(x, quantizer.qmin, quantizer.qmax, quantizer.symmetric)


def test_mse_searches_more_than_one_valley():
    """Heavy tails: Adam from the best clipping range alone ends 9 % above the optimum."""
    x = np.random.default_rng(3).standard_t(1.8, size=4000)
    s, b = best_grid(Points(np.sort(x), np.ones(x.size)), 0, 3, "real")
    shares = np.geomspace(0.003, 1, 90)
    ends = [(x.min() * down, x.max() * up) for down in shares for up in shares]
    best = min(mean_squared_error(x, (high - low) / 3, low, 0, 3) for low, high in ends)
    assert mean_squared_error(x, s, b, 0, 3) <= 1.01 * best


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("bits", [2, 4])
def test_mse_with_integer_offset_reaches_brute_force(kind, bits):
    x = SAMPLES[kind].astype(np.float32).astype(np.float64)
    p = 2**bits - 1
    s, b = best_grid(observed(x).points(), 0, p, "integer")
    assert b / s == pytest.approx(round(b / s), abs=1e-9)
    top = np.abs(x).max()
    best = min(mean_squared_error(x, t, t * z, 0, p) for z in range(-p, 2 * p) for t in top * np.geomspace(0.01, 1, 150))
    assert mean_squared_error(x, s, b, 0, p) <= 1.01 * best


@pytest.mark.parametrize("grid", ACTIVATION_GRIDS)
def test_mse_is_never_worse_than_the_closed_forms(grid):
    for x in SAMPLES.values():
        quantizer = Quantizer.activation("a.input", 3, grid=grid)
        errors = {
            m: mean_squared_error(x, *activation_grid(quantizer, observed(x), m), quantizer.qmin, quantizer.qmax) for m in ("minmax", "lsq", "mse")
        }
        assert errors["mse"] <= 1.001 * min(errors.values())  # 0.001: the histogram's points instead of the samples


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


def prepared(config: QATConfig | None = None) -> nn.Module:
    torch.manual_seed(0)
    return prepare(Net(), config)


def batches(count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 2, 6, 6, generator=generator) for _ in range(count)]


def test_minmax():
    model = prepared(QATConfig(first_last_bits=None))
    calib.initialize(model, batches(), method="minmax")
    x = torch.stack(batches())
    quantizer = quantizers(model)["conv.input"]
    assert quantizer.scale.item() == pytest.approx((x.max() - x.min()).item() / 15)
    assert quantizer.offset.item() == pytest.approx(x.min().item())


@pytest.mark.parametrize(("grid", "n", "p"), [("unsigned-symmetric", 0, 15), ("signed-symmetric", -8, 7), ("signed-asymmetric", -8, 7)])
def test_minmax_on_the_other_grids(grid, n, p):
    model = prepared(QATConfig(first_last_bits=None, activation_grid=grid))
    calib.initialize(model, batches(), method="minmax")
    low, high = torch.stack(batches()).min().item(), torch.stack(batches()).max().item()
    expected = {
        "unsigned-symmetric": (high / p, 0.0),
        "signed-symmetric": (max(-low, high) / p, 0.0),
        "signed-asymmetric": ((high - low) / (p - n), low - n * (high - low) / (p - n)),
    }[grid]
    quantizer = quantizers(model)["conv.input"]
    assert (quantizer.scale.item(), quantizer.offset.item()) == pytest.approx(expected)


def test_lsq():
    model = prepared(QATConfig(first_last_bits=None))
    calib.initialize(model, batches(), method="lsq")
    quantizer = quantizers(model)["conv.input"]
    assert quantizer.scale.item() == pytest.approx(2 * torch.stack(batches()).abs().mean().item() / math.sqrt(15))
    assert quantizer.offset.item() == 0


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_weights(granularity):
    model = prepared(QATConfig(weight_bits=3, first_last_bits=None, weight_granularity=granularity))
    calib.initialize(model, batches())
    weight = model.conv.parametrizations.weight.original.detach().double().numpy()
    rows = weight.reshape(4, -1) if granularity == "channel" else weight.reshape(1, -1)
    expected = [max(abs(r.mean() - 3 * r.std()), abs(r.mean() + 3 * r.std())) / 4 for r in rows]
    assert quantizers(model)["conv.weight"].scale.reshape(-1).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("method", ["minmax", "lsq", "mse"])
@pytest.mark.parametrize("grid", ACTIVATION_GRIDS)
@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, 1e-38])
def test_constant_activations_get_a_positive_scale(method, grid, value):
    quantizer = Quantizer.activation("a.input", 4, grid=grid)
    s, b = activation_grid(quantizer, observed(np.full(10, value)), method)
    quantizer.set_grid(s, b)
    if method != "lsq" and (not quantizer.symmetric or value >= 0 or quantizer.qmin < 0):
        assert quantizer(torch.tensor([value])).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("value", [0.0, 0.7])
def test_constant_weights_get_a_positive_scale(granularity, value):
    model = prepared(QATConfig(weight_granularity=granularity))
    nn.init.constant_(model.conv.parametrizations.weight.original, value)
    calib.initialize(model, batches())
    assert bool((quantizers(model)["conv.weight"].scale > 0).all())
    zero_channel = prepared(QATConfig(weight_granularity="channel"))
    with torch.no_grad():
        zero_channel.conv.parametrizations.weight.original[1] = 0
    calib.initialize(zero_channel, batches())
    scale = quantizers(zero_channel)["conv.weight"].scale
    assert scale[1].item() == pytest.approx(scale[[0, 2, 3]].mean().item())


def test_the_model_runs_in_float_and_comes_back_as_it_was():
    model = prepared()
    model.bn.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    buffers = {name: b.clone() for name, b in model.bn.named_buffers()}
    calib.initialize(model, ((x, torch.zeros(4)) for x in batches()))  # a generator of pairs: read once
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(b, buffers[name]) for name, b in model.bn.named_buffers())
    # the second layer saw the float network, not the quantized first layer
    torch.manual_seed(0)
    net = Net()
    net.bn.eval()
    with torch.no_grad():
        hidden = torch.cat([torch.relu(net.bn(net.conv(x))).mean((2, 3)) for x in batches()])
    again = prepared()
    calib.initialize(again, batches(), method="minmax")
    quantizer = quantizers(again)["fc.input"]
    assert quantizer.offset.item() == pytest.approx(hidden.min().item(), rel=1e-5)
    assert (quantizer.offset + 255 * quantizer.scale).item() == pytest.approx(hidden.max().item(), rel=1e-5)
    assert all(not q.bypass and not q._forward_pre_hooks for q in quantizers(again).values())


def test_a_loaded_model_is_not_initialized_again():
    model = prepared()
    calib.initialize(model, batches())
    other = prepared()
    other.load_state_dict(model.state_dict())
    other.eval()(batches()[0] * 100)
    for name, quantizer in quantizers(model).items():
        assert torch.equal(quantizers(other)[name].scale, quantizer.scale)
        assert torch.equal(quantizers(other)[name].offset, quantizer.offset)


class Unused(Net):
    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("data", "method", "message"),
    [
        ([], "mse", "no calibration batches"),
        (iter(()), "minmax", "no calibration batches"),
        (batches(), "max", "method='max': use one of minmax, lsq, mse"),
        ([np.zeros((1, 2, 6, 6))], "mse", "calibration batch 0 is ndarray"),
        ([{"x": 1}], "mse", "calibration batch 0 is dict"),
        (torch.zeros(3, 2, 6, 6), "mse", "batches is a tensor"),
        ([torch.full((1, 2, 6, 6), torch.nan)], "mse", "conv.input: values are not finite"),
        ([torch.zeros((0, 2, 6, 6))], "mse", "conv.input: no data"),
    ],
)
def test_bad_calibration_data(data, method, message):
    model = prepared()
    with pytest.raises(QuantizationError) as error:
        calib.initialize(model, data, method=method)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert not any(quantizer.initialized for quantizer in quantizers(model).values())
    assert all(not q.bypass and not q._forward_pre_hooks for q in quantizers(model).values())
    assert model.training


def test_a_layer_that_is_never_called_is_named_and_nothing_is_set():
    model = prepare(Unused())
    with pytest.raises(QuantizationError, match=r"^extra\.input: no data"):
        calib.initialize(model, batches())
    assert not any(quantizer.initialized for quantizer in quantizers(model).values())


def test_a_float_model_is_refused():
    with pytest.raises(QuantizationError, match="prepare"):
        calib.initialize(Net(), batches())


def test_weights_that_are_not_finite_are_named():
    model = prepared()
    with torch.no_grad():
        model.fc.parametrizations.weight.original[0, 0] = torch.nan
    with pytest.raises(QuantizationError, match=r"^fc\.weight: values are not finite"):
        calib.initialize(model, batches())
