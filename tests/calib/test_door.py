"""Models that cannot be worked with are named, by what `initialize` says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import calib
from calib.door import batched, check_model, check_type, check_values, unwrapped
from calib.errors import QuantizationError
from lsq_export import prepare


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.conv(x)).mean((-2, -1)))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Net, "model is the class Net: give an instance, Net(…)"),
        ("net.safetensors", "model is the path net.safetensors: give the nn.Module"),
        (Path("net.pt"), "model is the path net.pt"),
        (Net().state_dict(), "as of state_dict(): build the network"),
        (3, "model is a int: give a torch.nn.Module"),
    ],
)
def test_what_is_no_model(model: Any, says: str) -> None:
    with pytest.raises(QuantizationError) as error:
        calib.initialize(model, [torch.zeros(1, 3, 4, 4)])
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_scripted_model() -> None:
    with pytest.warns(DeprecationWarning):
        scripted = torch.jit.script(nn.ReLU())
    with pytest.raises(QuantizationError, match="TorchScript"):
        check_model(scripted)


class Compiled(nn.Module):
    """As torch.compile wraps a network."""

    def __init__(self) -> None:
        super().__init__()
        self._orig_mod = Net()


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_wrappers_are_looked_through(wrap: Any) -> None:
    net = Net()
    assert unwrapped(wrap(net)) is net and unwrapped(nn.DataParallel(wrap(net))) is net and unwrapped(net) is net
    assert unwrapped(Compiled()) is not net and unwrapped(3) == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_grids_need_more_than_16_bits(dtype: torch.dtype) -> None:
    with pytest.raises(QuantizationError, match=r"the model is b?float16 \(conv.weight\): use float32, model.float"):
        check_type(Net().to(dtype))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Net().to("meta"), "conv.weight is on the meta device and has no values"),
    ],
)
def test_a_model_that_cannot_be_prepared(model: nn.Module, says: str) -> None:
    with pytest.raises(QuantizationError) as error:
        check_type(model)
    assert says in str(error.value)
    with pytest.raises(QuantizationError) as error:
        prepare(model)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("place", "name"),
    [("fc.parametrizations.weight.original", "fc.weight"), ("conv.bias", "conv.bias"), ("norm.running_var",) * 2],
)
def test_a_value_that_is_not_finite_is_named(place: str, name: str) -> None:
    model = prepare(Net())
    with torch.no_grad():
        model.state_dict()[place].flatten()[0] = torch.inf
    with pytest.raises(QuantizationError, match=rf"^{name}: values are not finite \(NaN or infinity in 1 of "):
        calib.initialize(model, [torch.randn(1, 3, 4, 4)])


def test_grids_are_not_looked_at() -> None:
    model = prepare(Net())
    with torch.no_grad():
        model.conv.input_quantizer.scale.fill_(torch.nan)
    check_values(model)


def test_an_image_without_a_batch_is_found_where_torch_computes_it() -> None:
    net = Net()
    net.conv(torch.zeros(3, 4, 4))  # torch takes it
    with batched(net), pytest.raises(QuantizationError, match=r"^conv gets an input of shape \[3, 4, 4\], without the"):
        net.conv(torch.zeros(3, 4, 4))
    with batched(net):
        net.conv(torch.zeros(1, 3, 4, 4))
    assert not net.conv._forward_pre_hooks
    model = prepare(net)
    with pytest.raises(QuantizationError, match="without the batch dimension"):
        calib.initialize(model, torch.utils.data.TensorDataset(torch.randn(2, 3, 4, 4))[:][0].unbind())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_inputs_come_in_the_type_of_the_model(dtype: torch.dtype) -> None:
    x = torch.randint(0, 9, (4, 3, 4, 4)).float()
    a, b = prepare(Net()), prepare(Net())
    b.load_state_dict(a.state_dict())
    calib.initialize(a, [x])
    calib.initialize(b, [x.to(dtype)])
    assert torch.equal(a.conv.input_quantizer.scale, b.conv.input_quantizer.scale)


def test_batches_in_mappings() -> None:
    x = torch.randn(4, 3, 4, 4)
    model = prepare(Net())
    calib.initialize(model, [{"pixel_values": x, "labels": torch.zeros(4)}], input_key="pixel_values")
    assert bool(model.conv.input_quantizer.initialized)


def test_the_model_does_not_take_a_batch() -> None:
    with pytest.raises(QuantizationError) as error:
        calib.initialize(prepare(Net()), [torch.randn(2, 3, 4, 4), torch.randn(2, 4, 4, 3)])
    says = r"calibration batch 1: the model does not take an input of shape [4, 4, 3] (without the batch): "
    assert str(error.value).startswith(says) and "the channels are last here: conv takes" in str(error.value)
    with pytest.raises(QuantizationError, match="swapped"):
        calib.initialize([torch.zeros(1)], Net())  # type: ignore[arg-type]
