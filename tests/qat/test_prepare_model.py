"""prepare: which layers get quantizers, what is refused, and that the float model stays as it was."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from calib import QuantizationError, QuantizationWarning
from lsq_export.qat.prepare_model import QATConfig, prepare, quantizers
from support.published import published


class SameConv2d(nn.Conv2d):
    """A subclass with a forward of its own (TensorFlow's "same" padding)."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(nn.functional.pad(input, (0, 1, 0, 1)), self.weight, self.bias)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding="same")
        self.bn1 = nn.BatchNorm2d(4)
        self.block = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(4, 4, 3, groups=4, dilation=2, padding=2), act=nn.PReLU(), drop=nn.Dropout(0.1))
        )
        self.same = SameConv2d(4, 4, 2)
        self.fc = nn.Linear(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block(self.bn1(self.conv1(x)))
        x = self.same(input=self.same(x))  # twice, once with a keyword
        return self.fc(x.mean((2, 3)))


LAYERS = ["conv1", "block.conv", "same", "fc"]


def ready(config: QATConfig | None = None) -> nn.Module:
    torch.manual_seed(0)
    model = prepare(Net(), config or published())
    for quantizer in quantizers(model).values():
        quantizer.set_grid(0.05)
    return model


def test_every_layer_gets_two_named_quantizers() -> None:
    model = prepare(Net(), published(weight_bits=3, activation_bits=2))
    assert list(quantizers(model)) == [f"{layer}.{part}" for layer in LAYERS for part in ("input", "weight")]
    for name, quantizer in quantizers(model).items():
        assert quantizer.name == name
        assert quantizer.kind == ("weight" if name.endswith(".weight") else "activation")
        edge = name.split(".")[0] in ("conv1", "fc")
        assert quantizer.bits == (8 if edge else 3 if quantizer.kind == "weight" else 2)
    assert type(model.same).forward is SameConv2d.forward and isinstance(model.same, SameConv2d)


def test_first_last_bits_none_means_like_the_rest() -> None:
    bits = {q.bits for q in quantizers(prepare(Net(), published(first_last_bits=None))).values()}
    assert bits == {4}


def test_granularity_and_grid_reach_the_quantizers() -> None:
    known = quantizers(
        prepare(Net(), published(weight_granularity="channel", activation_grid="signed-asymmetric", offset="integer"))
    )
    assert known["block.conv.weight"].scale.shape == (4,) and known["block.conv.weight"].axis == 0
    assert known["block.conv.input"].scale.shape == () and known["block.conv.input"].axis is None
    assert known["block.conv.input"].qmin == -8 and known["block.conv.input"].integer_offset
    assert known["block.conv.weight"].symmetric and not known["block.conv.weight"].offset.requires_grad


def test_values_are_those_of_quantized_input_and_weight() -> None:
    model = ready().eval()
    x = torch.randn(2, 4, 7, 7, generator=torch.Generator().manual_seed(1))
    known = quantizers(model)
    layer = model.block.conv
    expected = nn.functional.conv2d(
        known["block.conv.input"](x),
        known["block.conv.weight"](layer.parametrizations.weight.original),
        layer.bias,
        padding=2,
        dilation=2,
        groups=4,
    )
    assert torch.equal(layer(x), expected)


def test_the_float_model_is_untouched() -> None:
    torch.manual_seed(0)
    net = Net()
    net.bn1.eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    model = prepare(net, published())
    for quantizer in quantizers(model).values():
        quantizer.set_grid(0.05)
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == modes
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not net.conv1._forward_pre_hooks and type(net.conv1) is nn.Conv2d
    assert not model.bn1.training and model.conv1.input_quantizer.training


def test_gradients_reach_every_parameter() -> None:
    model = ready()
    model(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_state_dict_and_deepcopy() -> None:
    model = ready().eval()
    other = prepare(Net(), published()).eval()
    other.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    assert torch.equal(other(x), model(x))
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    moved = copy.deepcopy(model).to(torch.float64)
    assert moved(x.double()).dtype == torch.float64


def test_autocast() -> None:
    model = ready()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(torch.randn(2, 3, 8, 8))
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())


def test_a_weight_shared_by_two_layers_stays_shared() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    model = prepare(net, published())
    assert model[0].parametrizations.weight.original is model[2].parametrizations.weight.original
    assert list(quantizers(model)) == ["0.input", "0.weight", "2.input", "2.weight"]


@pytest.mark.parametrize("layer", [nn.Linear(3, 2), nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))])
def test_a_model_that_is_one_layer_has_no_edges(layer: nn.Module) -> None:
    with pytest.warns(QuantizationWarning, match="cannot trace this model: it is a single layer"):
        model = prepare(layer, QATConfig())
    assert set(quantizers(model)) == {"input", "weight"}
    with pytest.raises(QuantizationError, match=r"it is a single layer; wrap it in torch.nn.Sequential"):
        prepare(layer, QATConfig(edges="trained"))


def test_a_weight_can_be_assigned_and_a_parametrized_one_is_quantized() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    plain = prepare(nn.Linear(3, 2), published())
    plain.weight = torch.ones(2, 3)
    assert torch.equal(plain.parametrizations.weight.original, torch.ones(2, 3))
    model = prepare(layer, published())
    quantizers(model)["weight"].set_grid(0.1)
    codes = model.weight / 0.1
    torch.testing.assert_close(codes, codes.round())


class Functional(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.good = nn.Conv2d(3, 3, 1)
        self.bad = layer


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(2, 2, dtype=torch.complex64),
        nn.LazyLinear(3),
    ],
    ids=lambda layer: getattr(layer, "__name__", type(layer).__name__),
)
def test_refused_layers_are_named(layer: nn.Module) -> None:
    with pytest.raises(QuantizationError, match=rf"^layer bad \({type(layer).__name__}\) ") as error:
        prepare(Functional(layer), published())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "layer",
    [nn.LSTM(2, 2), nn.GRUCell(2, 2), nn.Embedding(3, 2), nn.EmbeddingBag(3, 2), nn.Bilinear(2, 2, 2)],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_that_cannot_be_quantized_stay_float_by_a_note(layer: nn.Module) -> None:
    says = rf"^layers that stay float, since they have no integer form: bad \({type(layer).__name__}\)$"
    with pytest.warns(QuantizationWarning, match=says):
        model = prepare(Functional(layer), published(edges="calibrated"))
    assert list(quantizers(model)) == ["good.input", "good.weight"]


def test_norms_activations_pooling_and_dropout_are_fine() -> None:
    others = [
        nn.BatchNorm2d(3),
        nn.GroupNorm(1, 3),
        nn.LayerNorm(3),
        nn.PReLU(),
        nn.SiLU(),
        nn.MaxPool2d(2),
        nn.Dropout(),
        nn.Identity(),
        nn.Flatten(),
    ]
    model = prepare(nn.Sequential(nn.Conv2d(3, 3, 1), *others), published())
    assert list(quantizers(model)) == ["0.input", "0.weight"]


def test_nothing_to_quantize() -> None:
    with pytest.raises(QuantizationError, match="nothing to quantize"):
        prepare(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), published())


def test_prepared_twice() -> None:
    with pytest.raises(QuantizationError, match="prepared already"):
        prepare(prepare(Net()), published())


def test_a_single_layer_is_a_model() -> None:
    model = prepare(nn.Linear(3, 2), published())
    assert set(quantizers(model)) == {"input", "weight"}
    assert quantizers(nn.Linear(3, 2)) == {}
