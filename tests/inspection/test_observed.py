"""observed: the codes of torch.ao's and torchao's grids, against torch's own observers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from lsq_export.inspection.observed import HIGHEST, LOWEST, SWITCH, observed_codes

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.ao.quantization import (
        FakeQuantize,
        FusedMovingAvgObsFakeQuantize,
        MovingAverageMinMaxObserver,
        MovingAveragePerChannelMinMaxObserver,
    )

CODES = [(0, 255), (0, 127), (0, 15), (-128, 127), (-8, 7), (0, 3)]
WEIGHTS = [(-128, 127), (-127, 127), (-8, 7), (-7, 7), (-2, 1)]


def _found(quantizer: Any, weight: bool, **changed: Any) -> tuple[int, int] | None:
    state = {name: value.double().numpy() for name, value in quantizer.state_dict().items()}
    state[SWITCH] = quantizer.fake_quant_enabled.numpy()
    values = {**state, **changed}
    return observed_codes(values, values["scale"].reshape(-1), values["zero_point"].reshape(-1), weight)


def _quantizer(kind: Any, codes: tuple[int, int], observer: Any, scheme: torch.qscheme) -> Any:
    first, last = codes
    dtype = torch.quint8 if first == 0 else torch.qint8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(observer=observer, quant_min=first, quant_max=last, dtype=dtype, qscheme=scheme)


@pytest.mark.parametrize("kind", [FakeQuantize, FusedMovingAvgObsFakeQuantize])
@pytest.mark.parametrize("codes", CODES)
def test_activations(kind: Any, codes: tuple[int, int]) -> None:
    torch.manual_seed(1)
    for shift in (0.3, 4.0, -4.0):  # both signs, none below zero, none above
        quantizer = _quantizer(kind, codes, MovingAverageMinMaxObserver, torch.per_tensor_affine)
        for _ in range(3):
            quantizer(torch.randn(100).clamp(-3, 3) + shift)
        assert _found(quantizer, weight=False) == codes


@pytest.mark.parametrize("kind", [FakeQuantize, FusedMovingAvgObsFakeQuantize])
@pytest.mark.parametrize("codes", WEIGHTS)
@pytest.mark.parametrize("channels", [True, False])
def test_weights(kind: Any, codes: tuple[int, int], channels: bool) -> None:
    torch.manual_seed(2)
    observer = MovingAveragePerChannelMinMaxObserver if channels else MovingAverageMinMaxObserver
    scheme = torch.per_channel_symmetric if channels else torch.per_tensor_symmetric
    quantizer = _quantizer(kind, codes, observer, scheme)
    weight = torch.randn(8, 20)
    weight[2] = 0  # a dead channel has torch's least scale, which says nothing
    weight[5] = weight[5].abs()  # one of one sign is affine where it is fused
    for _ in range(3):
        quantizer(weight)
    assert _found(quantizer, weight=True) == codes


def test_what_was_learned_since_is_not_guessed() -> None:
    torch.manual_seed(3)
    quantizer = _quantizer(FakeQuantize, (0, 15), MovingAverageMinMaxObserver, torch.per_tensor_affine)
    quantizer(torch.randn(100))
    scale, zero = (getattr(quantizer, name).double().numpy() for name in ("scale", "zero_point"))
    assert _found(quantizer, weight=False) == (0, 15)
    assert _found(quantizer, weight=False, scale=scale * 1.01) is None
    assert _found(quantizer, weight=False, zero_point=zero + 0.3) is None
    assert _found(quantizer, weight=False, zero_point=zero + 3) is None
    assert _found(quantizer, weight=False, **{LOWEST: np.array(np.inf)}) is None
    assert _found(quantizer, weight=False, **{HIGHEST: np.zeros(3)}) is None
