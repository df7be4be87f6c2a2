"""calib.initialization: the closed forms, weights against brute force, and bad input.

The search over activation grids is in test_search.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import calib
from calib import QuantizationError, QuantizationWarning
from calib.initialization.rules import activation_grid, weight_scale
from calib.statistics.observers import Observer
from lsq_export.qat.config import ACTIVATION_GRIDS, ActivationGrid
from lsq_export.qat.prepare_model import QATConfig, prepare, quantizers
from lsq_export.qat.quantizer import Quantizer
from support.brute_force import smallest_error, squared_error
from support.published import published


def observed(x: np.ndarray, batches: int = 4) -> Observer:
    observer = Observer("a.input")
    for part in np.array_split(x.astype(np.float32), batches):
        observer.update(torch.from_numpy(part))
    return observer


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


def test_grids_do_not_depend_on_the_number_of_threads_and_each_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    config, known = QATConfig(edges="trained", offset="integer"), []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        model, told = prepared(config), []
        calib.initialize(model, batches(), progress=told.append)
        assert sorted(told) == sorted(quantizers(model))
        known.append([(q.scale.tolist(), q.offset.tolist()) for q in quantizers(model).values()])
    assert known[0] == known[1]


def test_minmax() -> None:
    model = prepared(published(first_last_bits=None))
    calib.initialize(model, batches(), method="minmax")
    x = torch.stack(batches())
    quantizer = quantizers(model)["conv.input"]
    assert quantizer.scale.item() == pytest.approx((x.max() - x.min()).item() / 15)
    assert quantizer.offset.item() == pytest.approx(x.min().item())


@pytest.mark.parametrize(
    ("grid", "n", "p"), [("unsigned-symmetric", 0, 15), ("signed-symmetric", -8, 7), ("signed-asymmetric", -8, 7)]
)
def test_minmax_on_the_other_grids(grid: ActivationGrid, n: int, p: int) -> None:
    model = prepared(published(first_last_bits=None, activation_grid=grid))
    calib.initialize(model, batches(), method="minmax")
    low, high = torch.stack(batches()).min().item(), torch.stack(batches()).max().item()
    expected = {
        "unsigned-symmetric": (high / p, 0.0),
        "signed-symmetric": (max(-low, high) / p, 0.0),
        "signed-asymmetric": ((high - low) / (p - n), low - n * (high - low) / (p - n)),
    }[grid]
    quantizer = quantizers(model)["conv.input"]
    assert (quantizer.scale.item(), quantizer.offset.item()) == pytest.approx(expected)


@pytest.mark.parametrize("grid", ACTIVATION_GRIDS)
def test_percentile_leaves_out_outliers_on_both_sides(grid: ActivationGrid) -> None:
    """numpy's quantiles are the oracle; min-max reaches to the outliers."""
    x = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    x[:5], x[5:8] = 1000.0, -500.0
    quantizer = Quantizer.activation("a.input", 8, grid=grid)
    low, high = np.quantile(x, [1e-4, 1 - 1e-4])
    scale, offset = activation_grid(quantizer, observed(x), "percentile")
    if quantizer.symmetric:
        assert scale == pytest.approx(max(high, 0 if quantizer.qmin == 0 else -low) / quantizer.qmax, rel=0.02)
        assert offset == 0
    else:
        assert scale * quantizer.qmin + offset == pytest.approx(low, rel=0.02)
        assert scale * quantizer.qmax + offset == pytest.approx(high, rel=0.02)
    assert activation_grid(quantizer, observed(x), "minmax")[0] > 50 * scale


def test_percentile_of_few_values_is_their_range() -> None:
    x, quantizer = np.array([-1.0, 0.0, 2.0], np.float32), Quantizer.activation("a.input", 4)
    seen = observed(x, batches=1)
    assert activation_grid(quantizer, seen, "percentile") == activation_grid(quantizer, seen, "minmax")


def test_lsq() -> None:
    model = prepared(published(first_last_bits=None))
    calib.initialize(model, batches(), method="lsq")
    quantizer = quantizers(model)["conv.input"]
    assert quantizer.scale.item() == pytest.approx(2 * torch.stack(batches()).abs().mean().item() / math.sqrt(15))
    assert quantizer.offset.item() == 0


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_weights(granularity: Any) -> None:
    model = prepared(published(weight_bits=3, first_last_bits=None, weight_granularity=granularity))
    calib.initialize(model, batches())
    weight = model.conv.parametrizations.weight.original.detach().double().numpy()
    rows = weight.reshape(4, -1) if granularity == "channel" else weight.reshape(1, -1)
    expected = [max(abs(r.mean() - 3 * r.std()), abs(r.mean() + 3 * r.std())) / 4 for r in rows]
    assert quantizers(model)["conv.weight"].scale.reshape(-1).tolist() == pytest.approx(expected)


class Layers(nn.Module):
    """Weights of 9 (depthwise), 54 and 5,400 elements a channel, some with a heavy tail."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(2, 6, 3, padding=1)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.conv = nn.Conv2d(6, 4, 3, padding=1)
        self.fc = nn.Linear(1350, 5)
        with torch.no_grad():
            self.conv.weight[1] = self.conv.weight[1] ** 5 * 100
            self.fc.weight[0] += 0.05

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(self.depthwise(self.wide(x))).flatten(1)[:, :36].repeat(1, 38)[:, :1350])


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_mse_of_weights_reaches_brute_force(granularity: Any, bits: int) -> None:
    torch.manual_seed(0)
    model = prepare(Layers(), published(weight_bits=bits, first_last_bits=None, weight_granularity=granularity))
    calib.initialize(model, [torch.randn(2, 2, 6, 6)], method="minmax", weights="mse")
    n, p = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for name, layer in (("depthwise", model.depthwise), ("conv", model.conv), ("fc", model.fc)):
        weight = layer.parametrizations.weight.original.detach().double().numpy()
        rows = weight.reshape(len(weight), -1) if granularity == "channel" else weight.reshape(1, -1)
        scales = quantizers(model)[f"{name}.weight"].scale.detach().double().numpy().reshape(-1)
        for row, s in zip(rows, scales, strict=True):
            assert squared_error(row, s, 0.0, n, p) <= 1.01 * smallest_error(row, n, p, "none"), (name, bits)


def test_the_papers_rule_for_weights_is_not_the_best_one() -> None:
    """So the check above can fail."""
    row = torch.nn.init.normal_(torch.empty(1, 3000), generator=torch.Generator().manual_seed(0))
    quantizer = Quantizer.weight("a.weight", 3, channels=1)
    paper, best = (
        squared_error(row.double().numpy(), float(weight_scale(quantizer, row, method)), 0.0, -4, 3)
        for method in ("lsq+", "mse")
    )
    assert paper > 1.01 * smallest_error(row.double().numpy(), -4, 3, "none") >= best


def test_an_unknown_rule_for_weights_is_refused() -> None:
    with pytest.raises(QuantizationError, match=r"^weights='max': use one of lsq\+, mse"):
        calib.initialize(prepared(), batches(), weights="max")


@pytest.mark.parametrize("method", ["minmax", "lsq", "mse"])
@pytest.mark.parametrize("grid", ACTIVATION_GRIDS)
@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, 1e-38])
def test_constant_activations_get_a_positive_scale(method: Any, grid: ActivationGrid, value: Any) -> None:
    quantizer = Quantizer.activation("a.input", 4, grid=grid)
    s, b = activation_grid(quantizer, observed(np.full(10, value)), method)
    quantizer.set_grid(s, b)
    if method != "lsq" and (not quantizer.symmetric or value >= 0 or quantizer.qmin < 0):
        assert quantizer(torch.tensor([value])).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("value", [0.0, 0.7])
@pytest.mark.parametrize("rule", ["lsq+", "mse"])
def test_constant_weights_get_a_positive_scale(granularity: Any, value: Any, rule: Any) -> None:
    model = prepared(published(weight_granularity=granularity))
    nn.init.constant_(model.conv.parametrizations.weight.original, value)
    calib.initialize(model, batches(), weights=rule)
    assert bool((quantizers(model)["conv.weight"].scale > 0).all())
    zero_channel = prepared(published(weight_granularity="channel"))
    with torch.no_grad():
        zero_channel.conv.parametrizations.weight.original[1] = 0
    calib.initialize(zero_channel, batches(), weights=rule)
    scale = quantizers(zero_channel)["conv.weight"].scale
    assert scale[1].item() == pytest.approx(scale[[0, 2, 3]].mean().item())


def test_the_model_runs_in_float_and_comes_back_as_it_was() -> None:
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
    assert hidden.min() > 0 and quantizer.offset.item() == 0.0  # no layer makes the mean: its grid holds real zero
    assert (quantizer.offset + 255 * quantizer.scale).item() == pytest.approx(hidden.max().item(), rel=1e-5)
    assert all(not q.bypass and not q._forward_pre_hooks for q in quantizers(again).values())


def test_a_loaded_model_is_not_initialized_again() -> None:
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
        (batches(), "max", "method='max': use one of minmax, percentile, lsq, mse"),
        ([np.full((1, 2, 6, 6), "0")], "mse", "calibration batch 0 is an array of <U1"),
        ([{"x": 1}], "mse", "calibration batch 0 is dict"),
        (torch.zeros(3, 2, 6, 6), "mse", "batches is a tensor"),
        (
            [torch.full((1, 2, 6, 6), torch.nan)],
            "mse",
            "calibration batch 0 holds NaN or infinity in 1 of its 1 samples",
        ),
        ([torch.zeros((0, 2, 6, 6))], "mse", "the calibration data is empty: all its batches hold 0 samples"),
    ],
)
def test_bad_calibration_data(data: Any, method: Any, message: str) -> None:
    model = prepared()
    with pytest.raises(QuantizationError) as error:
        calib.initialize(model, data, method=method)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert not any(quantizer.initialized for quantizer in quantizers(model).values())
    assert all(not q.bypass and not q._forward_pre_hooks for q in quantizers(model).values())
    assert model.training


def test_a_layer_that_is_never_called_is_named_and_left_out() -> None:
    model = prepare(Unused(), published())
    with pytest.warns(QuantizationWarning, match=r"^no data reach extra in eval mode: left out"):
        calib.initialize(model, batches())
    for name, quantizer in quantizers(model).items():
        assert bool(quantizer.initialized) != name.startswith("extra.") == quantizer.left_out
    x = torch.randn(2, 3)
    assert torch.equal(quantizers(model)["extra.input"](x), x)


def test_batches_that_reach_no_layer_set_nothing() -> None:
    class Nothing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    model = prepare(Nothing(), published())
    with pytest.raises(QuantizationError, match=r"^a\.input: no data"):
        calib.initialize(model, [torch.randn(3, 2)])
    assert not any(quantizer.initialized for quantizer in quantizers(model).values())


def test_a_float_model_is_refused() -> None:
    with pytest.raises(QuantizationError, match="prepare"):
        calib.initialize(Net(), batches())


def test_weights_that_are_not_finite_are_named() -> None:
    model = prepared()
    with torch.no_grad():
        model.fc.parametrizations.weight.original[0, 0] = torch.nan
    with pytest.raises(QuantizationError, match=r"^fc\.weight: values are not finite"):
        calib.initialize(model, batches())
