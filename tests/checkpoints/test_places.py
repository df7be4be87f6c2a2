"""Names of quantizers and where they are: nested modules, functions, modules that are called twice, several readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from calib.errors import QuantizationError
from lsq_export.checkpoints.network import AdoptedModel, read_checkpoint


class Inner(nn.Module):
    """A residual block whose ReLU is a function, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.act(self.conv(F.relu(x))) + x)


class Outer(nn.Module):
    """Images [N, 4, 8, 8] -> [N, 3]; one layer is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Inner(), Inner())
        self.twice = nn.Conv2d(4, 4, 1)
        self.up = nn.ConvTranspose2d(4, 4, 2, 2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(self.twice(self.twice(self.blocks(x))))
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


X = torch.linspace(-2, 2, 512).reshape(2, 4, 8, 8)


def _adopted(tmp_path: Path, extra: dict[str, torch.Tensor], **said: Any) -> tuple[Outer, AdoptedModel]:
    torch.manual_seed(5)
    net = Outer()
    torch.save({**net.state_dict(), **extra}, tmp_path / "net.pt")
    return net, read_checkpoint(tmp_path / "net.pt", net, X, **said)


def _hook(name: str, *, most: float = 2.0, signed: int = 1, channels: int = 0) -> dict[str, torch.Tensor]:
    """A symmetric quantizer of NNCF, of 8 bits."""
    scale = torch.full((channels, 1, 1, 1), most) if channels else torch.tensor([most])
    values = {"scale": scale, "signed_tensor": torch.tensor([signed]), "_num_bits": torch.tensor([8])}
    return {f"__nncf_hooks.{name}.{key}": value for key, value in values.items()}


def _symmetric(x: torch.Tensor, most: float, first: int, last: int) -> torch.Tensor:
    """NNCF's: the largest magnitude is the last code."""
    return (x * (last / most)).round().clamp(first, last) * (most / last)


def test_hooks_of_nncf_in_nested_modules(tmp_path: Path) -> None:
    extra = {
        **_hook("pre_hooks.blocks/1/conv/conv2d/0__1.0", most=0.2, channels=4),
        **_hook("pre_hooks.head/linear/0__1.0", most=0.5),
        **_hook("pre_hooks.head/linear/0__0.0", most=1.0),
        **_hook("post_hooks.blocks/1/relu/1__0.0", most=3.0, signed=0),
        **_hook("post_hooks.blocks/0/act/silu/0__0.0"),
        **_hook("post_hooks.x__0.0"),
    }
    net, adopted = _adopted(tmp_path, extra)
    assert {left.name for left in adopted.left} == {"blocks.0.conv", "twice", "up"}

    class Simulated(Outer):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            one, two = self.blocks
            x = _symmetric(x, 2.0, -128, 127)
            x = F.relu(_symmetric(one.act(one.conv(F.relu(x))), 2.0, -128, 127) + x)
            weight = _symmetric(two.conv.weight, 0.2, -127, 127)
            y = two.act(F.conv2d(F.relu(x), weight, two.conv.bias, padding=1))
            x = _symmetric(F.relu(y + x), 3.0, 0, 255)
            x = self.up(self.twice(self.twice(x))).mean((2, 3))
            return F.linear(_symmetric(x, 1.0, -128, 127), _symmetric(self.head.weight, 0.5, -127, 127), self.head.bias)

    simulated = Simulated()
    simulated.load_state_dict(net.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(adopted.module(X), simulated(X), atol=1e-6, rtol=0)


def test_a_module_that_is_called_twice_has_its_grid_twice(tmp_path: Path) -> None:
    extra = {
        "twice.weight_quantizer._amax": torch.full((4, 1, 1, 1), 0.5),
        "twice.input_quantizer._amax": torch.tensor(1.5),
    }
    net, adopted = _adopted(tmp_path, extra, bits=4, mapping={"activations": "signed"})
    uses = [node for node in adopted.module.graph.nodes if str(node.target).startswith("grids.")]
    assert len(uses) == 2 and len({node.target for node in uses}) == 1

    def layer(x: torch.Tensor) -> torch.Tensor:
        weight = (net.twice.weight / (0.5 / 7)).round().clamp(-8, 7) * (0.5 / 7)
        return F.conv2d((x / (1.5 / 7)).round().clamp(-8, 7) * (1.5 / 7), weight, net.twice.bias)

    with torch.no_grad():
        expected = net.head(net.up(layer(layer(net.blocks(X)))).mean((2, 3)))
        torch.testing.assert_close(adopted.module(X), expected, atol=1e-6, rtol=0)


def test_transposed_convolutions_have_scales_of_output_channels(tmp_path: Path) -> None:
    steps = torch.tensor([0.1, 0.05, 0.2, 0.025])
    extra = {"up.weight_fake_quant.scale": steps, "up.weight_fake_quant.zero_point": torch.zeros(4)}
    net, adopted = _adopted(tmp_path, extra, bits=4)
    expected = (net.up.weight / steps[None, :, None, None]).round().clamp(-8, 7) * steps[None, :, None, None]
    torch.testing.assert_close(adopted.module.get_submodule("up").weight, expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("zero_point", "codes"),
    [(torch.tensor([3]), (-11, 4)), (torch.tensor([2.7]), (-11, 4)), (torch.tensor([9.0]), (-15, 0))],
)
def test_zero_points_are_rounded_and_kept_in_the_range(
    zero_point: torch.Tensor, codes: tuple[int, int], tmp_path: Path
) -> None:
    """As torch's learnable quantizers use them; 9 is beyond the last code, 7."""
    extra = {
        "up.weight_fake_quant.scale": torch.tensor([0.1]),
        "up.weight_fake_quant.zero_point": torch.zeros(1),
        "twice.activation_post_process.scale": torch.tensor([0.25]),
        "twice.activation_post_process.zero_point": zero_point,
    }
    _, adopted = _adopted(tmp_path, extra, bits=4, mapping={"activations": "signed"})
    quantizer = adopted.module.get_submodule("grids.twice")
    assert (quantizer.qmin, quantizer.qmax) == codes and float(quantizer.offset) == 0


def test_places_that_the_user_names(tmp_path: Path) -> None:
    extra = {
        "q.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl.value": torch.tensor(3.0),
        "q.act_quant.fused_activation_quant_proxy.tensor_quant.zero_point_impl.value": torch.tensor(-1.0),
    }
    said = {"bits": 4, "weights": "tensor", "float": ["blocks.*"]}
    _, adopted = _adopted(tmp_path, extra, mapping={**said, "places": {"q": "twice.input"}})
    assert [str(node.args[0]) for node in adopted.module.graph.nodes if node.target == "grids.q"] == ["relu_3", "twice"]
    assert {left.name for left in adopted.left} == {"blocks.0.conv", "blocks.1.conv"}
    with pytest.raises(QuantizationError, match=r'the network has no nowhere: .*"q" = one of x'):
        _adopted(tmp_path, extra, mapping={**said, "places": {"q": "nowhere"}})


def test_two_grids_of_one_weight_are_refused(tmp_path: Path) -> None:
    extra = {
        "up.weight_quantizer._amax": torch.ones(1),
        "other.weight_quantizer._amax": torch.ones(1),
    }
    with pytest.raises(QuantizationError, match="are both of the weight of up: leave one out"):
        _adopted(tmp_path, extra, bits=4, mapping={"places": {"other": "up"}})


def test_calls_of_one_layer_that_are_counted_apart_share_the_grid_of_its_weight(tmp_path: Path) -> None:
    extra = {**_hook("pre_hooks.twice/conv2d/0__1.0", most=0.5), **_hook("pre_hooks.twice/conv2d/1__1.0", most=0.5)}
    net, adopted = _adopted(tmp_path, extra)
    found = adopted.module.get_submodule("twice").weight
    torch.testing.assert_close(found, _symmetric(net.twice.weight, 0.5, -127, 127), atol=1e-7, rtol=0)
    with pytest.raises(QuantizationError, match="are both of the weight of twice"):
        _adopted(tmp_path, {**extra, **_hook("pre_hooks.twice/conv2d/1__1.0", most=0.6)})


def test_weights_at_the_end_of_half_a_range_are_rounded_as_nncf_does(tmp_path: Path) -> None:
    """Its first layers have twice the range, so that the largest weight of every channel is 63.5 steps, a tie."""
    torch.manual_seed(5)
    weight = Outer().up.weight.detach()
    most = 2 * weight.abs().amax((0, 2, 3))
    extra = _hook("pre_hooks.up/conv_transpose2d/0__1.0", channels=4)
    extra["__nncf_hooks.pre_hooks.up/conv_transpose2d/0__1.0.scale"] = most.reshape(1, 4, 1, 1)
    _, adopted = _adopted(tmp_path, extra)
    high = most[None, :, None, None]
    factor = torch.tensor(254.0) / (high + high)  # as C++ divides; Python would multiply by the reciprocal
    steps = ((weight + high) * factor - (high * factor).round()).round()
    assert steps.abs().max() == 64
    found = adopted.module.get_submodule("up").weight
    torch.testing.assert_close(found, steps * (high / 127), atol=1e-7, rtol=0)
