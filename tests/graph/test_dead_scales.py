"""dead_scales: a scale that is zero or below is carried where nothing depends on it, and named elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import calib
import lsq_export
from calib import QuantizationError
from lsq_export.graph.capture import capture
from lsq_export.graph.dead_scales import positive_scales
from lsq_export.rewrite.fold import fold
from support.networks import Conv, inputs, norm, quick_capture, verified
from support.published import published

Edit = Callable[[nn.Sequential], object]


def prepared(edit: Edit, granularity: str = "tensor") -> nn.Module:
    """Three convolutions; the edit is of the float network, whose second one is layer 3."""
    torch.manual_seed(0)
    layers = [Conv(3, 8, 3, padding=1), norm(8), nn.ReLU(), Conv(8, 8, 3, padding=1), norm(8), nn.ReLU()]
    net = nn.Sequential(*layers, nn.MaxPool2d(2), Conv(8, 4, 1)).eval()
    with torch.no_grad():
        edit(net)
    config = published(weight_granularity=granularity)  # type: ignore[arg-type]
    model = lsq_export.prepare(net, config)
    calib.initialize(model, [inputs(16, 1)], "minmax")
    return model


def drive(model: nn.Module, scales: dict[str, list[float]]) -> nn.Module:
    """What training would have done to the first scales of these quantizers."""
    with torch.no_grad():
        for name, values in scales.items():
            lsq_export.quantizers(model)[name].scale.reshape(-1)[: len(values)] = torch.tensor(values)
    return model


def no_weights(net: nn.Sequential) -> None:
    net[3].weight.zero_()  # type: ignore[union-attr, operator]


def no_gamma(net: nn.Sequential) -> None:
    net[4].weight.zero_()  # type: ignore[union-attr, operator]


def mixed(net: nn.Sequential) -> None:
    """Channel 0 has no weights, 1 no γ."""
    net[3].weight[0] = 0  # type: ignore[index, operator]
    net[4].weight[1] = 0  # type: ignore[index, operator]


def reads_nothing(net: nn.Sequential) -> None:
    """The last layer, behind a pool that hands codes on."""
    net[7].weight.zero_()  # type: ignore[union-attr, operator]


CARRIED = {
    "zero weights": (no_weights, "tensor", {"3.weight": [0.0], "3.input": [-0.5]}),
    "zero γ": (no_gamma, "tensor", {"3.weight": [-1e-3], "3.input": [0.0]}),
    "channels": (mixed, "channel", {"3.weight": [0.0, -1.0]}),
    "the last layer": (reads_nothing, "tensor", {"7.input": [-1.0], "7.weight": [0.0]}),
}


@pytest.mark.parametrize("case", CARRIED)
def test_a_scale_without_effect_is_carried(case: str) -> None:
    edit, granularity, scales = CARRIED[case]
    plain, dead = prepared(edit, granularity), drive(prepared(edit, granularity), scales)
    before = {name: q.scale.clone() for name, q in lsq_export.quantizers(dead).items()}
    made = fold(quick_capture(dead), [inputs(16, 1)])
    parity, _ = verified(dead, made)
    assert parity.ok, parity.failures
    assert all(torch.equal(q.scale, before[name]) for name, q in lsq_export.quantizers(dead).items())
    x = inputs(4, 2)
    assert torch.equal(dead.eval()(x), plain.eval()(x))  # the scale never mattered


REFUSED = {
    "one channel more": (mixed, "channel", {"3.weight": [1.0, 0.0, -2.0]}, "3.weight: scale is -2.0"),
    "a tensor with some dead channels": (mixed, "tensor", {"3.weight": [-1.0]}, "3.weight: scale is -1.0"),
    "its input": (mixed, "channel", {"3.input": [-1.0]}, "3.input: scale is -1.0"),
    "not a number": (no_weights, "tensor", {"3.weight": [float("nan")]}, "3.weight: scale is nan"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_scale_that_matters_is_named(case: str) -> None:
    edit, granularity, scales, message = REFUSED[case]
    model = drive(prepared(edit, granularity), scales)
    with pytest.raises(QuantizationError, match=f"^{message}, but must be finite and positive"):
        quick_capture(model)


def test_scales_come_back_after_an_error() -> None:
    model = drive(prepared(lambda net: None), {"3.weight": [-1.0]})
    scale = lsq_export.quantizers(model)["3.weight"].scale
    with pytest.raises(ZeroDivisionError), positive_scales(model) as dead:
        assert set(dead) == {"3.weight"} and float(lsq_export.quantizers(model)["3.weight"].scale.detach()) > 0
        raise ZeroDivisionError
    assert lsq_export.quantizers(model)["3.weight"].scale is scale and float(scale.detach()) == -1.0


def test_an_evaluated_quantizer_counts_a_bad_scale_as_its_floor() -> None:
    """As in training, but nothing is written."""
    quantizer = lsq_export.quantizers(drive(prepared(lambda net: None), {"7.input": [-1.0]}))["7.input"].eval()
    x = torch.linspace(0, 0.1, 50)
    found = quantizer(x)
    assert float(quantizer.scale.detach()) == -1.0
    assert torch.equal(found, quantizer.train()(x)) and float(quantizer.scale.detach()) == float(quantizer.floor)


def test_capture_still_refuses_a_model_without_quantizers() -> None:
    with pytest.raises(QuantizationError, match="no quantizers"):
        capture(nn.Conv2d(3, 4, 1), inputs(2, 1))
