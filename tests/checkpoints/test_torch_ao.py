"""Quantizers that torch.ao counts, against torch.ao itself: a network with all that its fusions and sharing touch."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from calib.errors import QuantizationError
from lsq_export.checkpoints.network import read_checkpoint

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.ao.nn.quantized import FloatFunctional
    from torch.ao.quantization import (
        DeQuantStub,
        QuantStub,
        QuantWrapper,
        disable_observer,
        fuse_modules_qat,
        get_default_qat_qconfig,
        get_default_qat_qconfig_mapping,
        prepare_qat,
    )
    from torch.ao.quantization.quantize_fx import prepare_qat_fx


class Block(nn.Module):
    """Batch norms that are fused with a ReLU, and without; torch.relu, which is fused with a sum, not with a layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.n = nn.BatchNorm2d(outputs)
        self.b = nn.Conv2d(outputs, outputs, 1)
        self.m = nn.BatchNorm2d(outputs)
        self.p, self.q = nn.Conv2d(inputs, outputs, 1), nn.Conv2d(inputs, inputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.n(self.a(x)))
        return torch.relu(self.m(self.b(y)) + self.p(torch.relu(self.q(x))))


class Large(nn.Module):
    """Images [N, 3, 32, 32] -> [N, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.pool = nn.MaxPool2d(2)
        self.one, self.two = Block(8, 8), Block(16, 12)
        self.act, self.drop = nn.Hardswish(), nn.Dropout(0.1)
        self.fc, self.bn, self.out = nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.stem(x))
        x = self.act(self.two(torch.cat([x, self.one(x)], 1)))
        x = self.drop(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        logits: torch.Tensor = self.out(F.relu(self.bn(self.fc(x))))
        return logits


def _trained(net: nn.Module, x: torch.Tensor, backend: str, path: Path) -> torch.Tensor:
    """Save what torch.ao makes of a network that has seen a few batches; returns what it makes of x."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _saved(prepare_qat_fx(net.train(), get_default_qat_qconfig_mapping(backend), (x,)), x, path)


def _saved(model: nn.Module, x: torch.Tensor, path: Path) -> torch.Tensor:
    for _ in range(3):
        model(x + 0.1 * torch.randn(x.shape))
    model.apply(disable_observer).eval()
    torch.save(model.state_dict(), path)
    with torch.no_grad():
        result: torch.Tensor = model(x)
    return result


@pytest.mark.parametrize("backend", ["x86", "qnnpack"])
def test_all_grids_are_found(backend: str, tmp_path: Path) -> None:
    """x86 has 128 codes of activations and weights per channel, qnnpack 256 and weights per tensor: no word of it."""
    torch.manual_seed(0)
    net, x = Large(), torch.randn(4, 3, 32, 32)
    expected = _trained(net, x, backend, tmp_path / "net.pt")
    adopted = read_checkpoint(tmp_path / "net.pt", net, x)
    with torch.no_grad():
        found = adopted.module(x)
    assert not adopted.left and len(adopted.places) == 35
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    assert {quantizer.bits for _, quantizer in adopted.module.grids.named_children()} == {7 if backend == "x86" else 8}


def test_a_network_with_another_operator_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = Large(), torch.randn(4, 3, 32, 32)
    _trained(net, x, "x86", tmp_path / "net.pt")
    other = Large()
    other.act = nn.Sequential(nn.Hardswish(), nn.Hardswish())
    with pytest.raises(QuantizationError, match=r"its 24 quantizers are counted .* fit neither every tensor") as error:
        read_checkpoint(tmp_path / "net.pt", other, x)
    assert "\n" not in str(error.value)


def test_branches_that_torchao_counts_in_its_own_order_are_refused(tmp_path: Path) -> None:
    """It puts what it fuses behind other branches: the numbers of a block with two do not say which is which."""

    class Branches(nn.Module):
        def __init__(self, second: nn.Module) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), second

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x) + self.b(x)

    state = dict(Branches(nn.Conv2d(3, 4, 1)).state_dict())
    for number, channels in enumerate((1, 4, 1, 4, 1, 1)):
        state[f"activation_post_process_{number}.scale"] = torch.full((channels,), 0.1)
        state[f"activation_post_process_{number}.zero_point"] = torch.zeros(channels, dtype=torch.int32)
    torch.save(state, tmp_path / "net.pt")
    said: dict[str, Any] = {"bits": 8, "mapping": {"activations": "signed"}}
    x = torch.zeros(1, 3, 8, 8)
    with pytest.raises(QuantizationError, match="in one order: say where each is"):
        read_checkpoint(tmp_path / "net.pt", Branches(nn.Conv2d(3, 4, 1)), x, **said)
    places = {
        f"activation_post_process_{n}": place for n, place in enumerate(("x", "b.weight", "b", "a.weight", "a", "add"))
    }
    said["mapping"]["places"] = places
    adopted = read_checkpoint(tmp_path / "net.pt", Branches(nn.Conv2d(3, 4, 1)), x, **said)
    assert adopted.places["activation_post_process_3"] == "a.weight" and len(adopted.places) == 6


def test_a_count_that_fits_by_chance_shows_in_the_ranges(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sigmoid(), nn.Conv2d(4, 2, 1)), torch.randn(4, 3, 8, 8)
    _trained(net, x, "x86", tmp_path / "net.pt")
    assert not read_checkpoint(tmp_path / "net.pt", net, x).left
    state = torch.load(tmp_path / "net.pt", weights_only=True)
    wide, lost = {"activation_post_process_1.scale": 0.01}, {"activation_post_process_0.zero_point": 0}
    for number, changed in ((1, wide), (0, lost)):
        odd = {name: v * changed.get(name, 1) for name, v in state.items() if "_val" not in name}
        torch.save(odd, tmp_path / "net.pt")
        said: dict[str, Any] = {"bits": 8, "mapping": {"activations": "unsigned"}}
        (left,) = read_checkpoint(tmp_path / "net.pt", net, x, **said).left
        assert left.name == f"grids.activation_post_process_{number}"
        assert left.why.startswith("it may be of another tensor")


class Two(nn.Module):
    """The second input is read after two layers. Images [N, 3, 4, 4], twice -> [N, 4, 4, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self.b(self.a(x)) + self.c(y)
        return total


def test_a_second_input_is_counted_where_it_is_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x, y = Two(), torch.randn(8, 3, 4, 4), 40 * torch.randn(8, 3, 4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = prepare_qat_fx(net.train(), get_default_qat_qconfig_mapping("x86"), (x, y))
        model(x, y)
        model.apply(disable_observer).eval()
    torch.save(model.state_dict(), tmp_path / "net.pt")
    adopted = read_checkpoint(tmp_path / "net.pt", net, (x, y))
    with torch.no_grad():
        expected, found = model(x, y), adopted.module(x, y)
    assert not adopted.left and len(adopted.places) == 9
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


class Eager(nn.Module):
    """Stubs, operators of FloatFunctional, a batch norm that a layer takes in or not. Images [N, 3, 8, 8] -> [N, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.a, self.n, self.r = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        self.b, self.m = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.add, self.cat = FloatFunctional(), FloatFunctional()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.r(self.n(self.a(self.quant(x))))
        z = self.cat.cat([self.add.add_relu(y, self.m(self.b(y))), y], 1)
        logits: torch.Tensor = self.dequant(self.fc(torch.flatten(self.pool(z), 1)))
        return logits


def _eager(net: nn.Module, x: torch.Tensor, path: Path) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.qconfig = get_default_qat_qconfig("fbgemm")  # type: ignore[assignment]
        return _saved(prepare_qat(net.train()), x, path)


@pytest.mark.parametrize("fused", [True, False])
def test_eager_mode_with_stubs(fused: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = Eager(), torch.randn(4, 3, 8, 8)
    for norm in (net.n, net.m):
        norm.running_var.uniform_(0.5, 2)
    model = fuse_modules_qat(net.train(), [["a", "n", "r"], ["b", "m"]]) if fused else net
    expected = _eager(model, x, tmp_path / "net.pt")
    adopted = read_checkpoint(tmp_path / "net.pt", Eager(), x)
    with torch.no_grad():
        found = adopted.module(x)
    assert not adopted.left and len(adopted.places) == (9 if fused else 11)
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("stubs", [True, False])
def test_the_wrapper_of_a_network_without_stubs(stubs: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)), torch.randn(4, 3, 8, 8)
    expected = _eager(QuantWrapper(fuse_modules_qat(copy.deepcopy(net).train(), [["0", "1"]])), x, tmp_path / "net.pt")
    adopted = read_checkpoint(tmp_path / "net.pt", QuantWrapper(net) if stubs else net, x)
    with torch.no_grad():
        found = adopted.module(x)
    assert not adopted.left and len(adopted.places) == 5
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
