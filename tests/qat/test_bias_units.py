"""qat.bias_units: in eval mode a bias is what an int32 bias of a file can be, and no code differs any more for it."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import calib
import lsq_export
from lsq_export.qat.bias_units import rounded_biases
from support.networks import inputs

EIGHT = lsq_export.QATConfig(weight_bits=8, activation_bits=8)
FOUR = lsq_export.QATConfig(weight_bits=4, activation_bits=4, first_last_bits=None)


def conv_norm(out: int = 8, kernel: int = 3, padding: int = 1) -> list[nn.Module]:
    norm = nn.BatchNorm2d(out)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 1.3, out) * (-1) ** torch.arange(out))
        norm.bias.uniform_(-1.3, 1.3)
        norm.running_mean.uniform_(-1.3, 1.3)  # type: ignore[union-attr]
    return [nn.Conv2d(8, out, kernel, padding=padding), norm, nn.ReLU()]


class Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x + self.layers(x)
        return y


def network() -> nn.Sequential:
    torch.manual_seed(5)
    first, up = nn.Conv2d(3, 8, 3, padding=1), nn.ConvTranspose2d(8, 8, 4, 2, 1)
    sums = Residual(nn.Conv2d(8, 8, 1)), Residual(*conv_norm()[:2])
    return nn.Sequential(first, nn.ReLU(), *conv_norm(), *conv_norm(8, 1, 0), *sums, up, nn.ReLU(), nn.Conv2d(8, 4, 3))


def prepared(config: lsq_export.QATConfig) -> nn.Module:
    model = lsq_export.prepare(network(), config)
    calib.initialize(model, [inputs(16, 1)], "minmax")
    return model.eval()


def without_units(model: nn.Module) -> nn.Module:
    """The break: a copy whose biases are what they are."""
    found = copy.deepcopy(model)
    for module in found.modules():
        if hasattr(module, "bias_unit"):
            module.bias_unit = None
    return found


def differing(model: nn.Module, out: Path) -> int:
    """Codes after layers that the fold changes, on the same inputs; those of sums may have moved clear of ties."""
    x = inputs(32, 2)
    bundle = lsq_export.export(model, x[:1], out, calibration=[inputs(16, 1)])
    parity = lsq_export.verify(model, bundle, [x])
    assert parity.ok
    after_layers = ("2.input", "5.input", "edges._7", "edges._8_layers_0", "edges._9_layers_1", "edges._12")
    return sum(round(layer.differing * layer.elements) for layer in parity.trained_layers if layer.name in after_layers)


def test_a_bias_is_a_whole_number_of_units() -> None:
    """Against torch's own convolution of what the quantizers give."""
    model, x = prepared(EIGHT), inputs(4, 3)
    grids = lsq_export.quantizers(model)
    layer, norm = model.get_submodule("2"), model.get_submodule("3")
    seen: dict[str, torch.Tensor] = {}
    layer.register_forward_hook(lambda module, args, y: seen.update(y=y))
    layer.input_quantizer.register_forward_hook(lambda module, args, y: seen.update(x=y))  # type: ignore[union-attr, operator]
    norm.register_forward_hook(lambda module, args, y: seen.update(norm=y))
    with torch.no_grad():
        model(x)
        plain = F.conv2d(seen["x"].double(), layer.weight.double(), padding=1)
        factor = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        found = (seen["norm"].double() - plain * factor.view(-1, 1, 1)).movedim(1, 0).flatten(1)
        unit = grids["2.input"].scale.double() * grids["2.weight"].scale.double() * factor.abs()
        steps = found / unit.view(-1, 1)
        given = (layer.bias.double() - norm.running_mean.double()) * factor + norm.bias.double()
    assert (steps - steps.round()).abs().max() < 0.02  # float32 sums
    assert ((steps.mean(1).round() * unit - given).abs() <= 0.5001 * unit).all()
    assert ((given / unit - (given / unit).round()).abs() > 0.05).any()


@pytest.mark.slow
@pytest.mark.parametrize(("config", "few", "many"), [(EIGHT, 2, 60), (FOUR, 20, 400)], ids=["W8A8", "W4A4"])
def test_hardly_a_code_differs_for_a_bias(config: lsq_export.QATConfig, few: int, many: int, tmp_path: Path) -> None:
    model = prepared(config)
    assert differing(model, tmp_path / "a") <= few
    assert differing(without_units(model), tmp_path / "b") >= many


def test_training_goes_on_with_the_biases_themselves() -> None:
    model, x = prepared(EIGHT), inputs(8, 4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    plain = without_units(model)
    assert not torch.equal(model(x), plain(x))
    assert torch.equal(model.train()(x), plain.train()(x))


def test_parameters_keep_their_names_and_come_back_after_an_export() -> None:
    model = prepared(EIGHT)
    assert {"0.bias", "3.bias", "10.bias"} <= set(model.state_dict())
    before = dict(model.named_parameters())
    with rounded_biases(model):
        assert model.get_submodule("3").bias is not before["3.bias"]
        moved = (model.get_submodule("3").bias - before["3.bias"]).abs().max()
    assert moved > 0 and all(parameter is before[name] for name, parameter in model.named_parameters())


def test_a_copy_rounds_its_own_biases() -> None:
    model = prepared(EIGHT)
    copied, x = copy.deepcopy(model), inputs(4, 3)
    with torch.no_grad():
        model.get_submodule("3").bias.add_(100.0)
        expected = copied(x)
    assert torch.equal(prepared(EIGHT)(x), expected)


def test_a_layer_without_a_bias_has_one_while_it_is_exported() -> None:
    """It carries the offset of the grid after it."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 1))
    model = lsq_export.prepare(net, FOUR)
    calib.initialize(model, [inputs(16, 1)], "minmax")
    quantizer = lsq_export.quantizers(model)["1.input"]
    quantizer.set_grid(quantizer.scale.detach(), -7.4 * quantizer.scale.detach())  # on multiples of s / 15
    layer = model.eval().get_submodule("0")
    with rounded_biases(model):
        bias = layer.bias
    assert layer.bias is None and isinstance(bias, nn.Parameter) and bias.shape == (4,) and bias.abs().max() > 0
    x = inputs(4, 2)
    with torch.no_grad():
        before = copy.deepcopy(layer)
        before.bias_unit = None
        torch.testing.assert_close(layer(x), before(x) + bias.view(-1, 1, 1), rtol=0, atol=1e-6)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.b(self.a(F.relu(self.a(x))))
        return y


def test_a_layer_with_two_grids_after_it_keeps_its_bias() -> None:
    model = lsq_export.prepare(Twice(), EIGHT)
    assert not hasattr(model.a, "bias_unit") and hasattr(model.b, "bias_unit")


def test_quantizers_without_a_grid_leave_biases_alone() -> None:
    model, x = lsq_export.prepare(network(), EIGHT).eval(), inputs(4, 3)
    from calib.quantized import bypassed

    with bypassed(model), torch.no_grad():
        np.testing.assert_array_equal(model(x), network().eval()(x))
