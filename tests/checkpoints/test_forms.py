"""Forms that libraries' quantizers have beside their defaults, in one layer whose simulation is written down here."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from calib.errors import QuantizationError
from lsq_export.checkpoints.network import AdoptedModel, read_checkpoint

BREVITAS = "act_quant.fused_activation_quant_proxy.tensor_quant"


class Layer(nn.Module):
    """[N, 6] -> [N, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(x)
        return y


def _floats() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Parameters, and inputs [32, 6] beyond all grids here."""
    torch.manual_seed(4)
    return dict(Layer().state_dict()), torch.randn(32, 6) * 3 + 0.5


def _rounded(
    x: torch.Tensor, scale: torch.Tensor | float, codes: tuple[int, int], zero: torch.Tensor | float = 0.0
) -> torch.Tensor:
    return ((x / scale + zero).round().clamp(*codes) - zero) * scale


def _largest(weight: torch.Tensor) -> torch.Tensor:
    return weight.abs().max(1, keepdim=True).values


WEIGHT = _floats()[0]["fc.weight"]
STEP = _largest(WEIGHT) / 7  # Brevitas' weights
LOW = WEIGHT.min(1, keepdim=True).values.clamp(max=0)
ZERO_TO = (WEIGHT.max(1, keepdim=True).values - WEIGHT.min(1, keepdim=True).values) / 15
SAID: dict[str, Any] = {"bits": 4, "activations": "signed", "weights": "channel", "places": {"q": "x"}}


@dataclass(frozen=True, kw_only=True)
class Form:
    """tensors: of the quantizers. weight: as it is simulated. scale, codes, zero: of the input."""

    tensors: dict[str, torch.Tensor]
    said: dict[str, Any]
    scale: float
    codes: tuple[int, int]
    zero: float = 0.0
    weight: torch.Tensor = field(default_factory=lambda: _rounded(WEIGHT, STEP, (-7, 7)))


def _brevitas(value: float, **said: Any) -> dict[str, Any]:
    return {"tensors": {f"q.{BREVITAS}.scaling_impl.value": torch.tensor(value)}, "said": {**SAID, **said}}


WHOLE = 2 ** _largest(WEIGHT).log2().ceil() / 8  # powers of two
FORMS = {
    "narrow": Form(**_brevitas(2.1, narrow=["q"]), scale=2.1 / 7, codes=(-7, 7)),
    "a magnitude": Form(**_brevitas(-2.4, ranges="linear"), scale=2.4 / 8, codes=(-8, 7)),
    "log2": Form(**_brevitas(1.25, ranges="log2"), scale=2**1.25 / 8, codes=(-8, 7)),
    "power of two, signed": Form(
        **_brevitas(0.4, ranges="power-of-two"), scale=0.25, codes=(-8, 7), weight=_rounded(WEIGHT, WHOLE, (-7, 7))
    ),
    "power of two, unsigned": Form(
        **_brevitas(0.4, ranges="power-of-two", activations="unsigned"),
        scale=0.125,
        codes=(0, 15),
        weight=_rounded(WEIGHT, WHOLE, (-7, 7)),
    ),
    "unsigned weights": Form(
        **_brevitas(2.4, unsigned=["fc.weight"]),
        scale=0.3,
        codes=(-8, 7),
        weight=_rounded(WEIGHT, ZERO_TO, (0, 15), (-LOW / ZERO_TO).round()),
    ),
    "means of ranges": Form(
        tensors={f"q.{BREVITAS}.scaling_impl.runtime_stats.running_stats": torch.tensor(2.4)},
        said=SAID,
        scale=0.3,
        codes=(-8, 7),
    ),
    "AIMET, symmetric and unsigned": Form(
        tensors={
            "fc.input_quantizers.0.min": torch.tensor(-2.4),
            "fc.input_quantizers.0.max": torch.tensor(2.1),
            "fc.input_quantizers.0._extra_state": {"qmin": 0, "qmax": 15, "symmetric": True},  # type: ignore[dict-item]
        },
        said={},
        scale=0.3,
        codes=(0, 15),
        zero=8,
        weight=WEIGHT,
    ),
    "Quark, unsigned weights": Form(
        tensors={
            "fc._input_quantizer.scale": torch.tensor(0.3),
            "fc._input_quantizer.zero_point": torch.tensor(7),
            "fc._weight_quantizer.scale": ZERO_TO.reshape(-1),
            "fc._weight_quantizer.zero_point": torch.tensor([8, 7, 9, 6]),
        },
        said={"bits": 4, "activations": "unsigned", "unsigned": ["*._weight_quantizer"]},
        scale=0.3,
        codes=(0, 15),
        zero=7,
        weight=_rounded(WEIGHT, ZERO_TO, (0, 15), torch.tensor([[8.0], [7.0], [9.0], [6.0]])),
    ),
    "MQBench": Form(
        tensors={
            "x_post_act_fake_quantizer.scale": torch.tensor([0.3]),
            "x_post_act_fake_quantizer.zero_point": torch.tensor([6.7]),
            "x_post_act_fake_quantizer.fake_quant_enabled": torch.tensor([1]),
            "x_post_act_fake_quantizer.eps": torch.tensor([1e-7]),
            "fc.weight_fake_quant.scale": STEP.reshape(-1),
            "fc.weight_fake_quant.zero_point": torch.zeros(4),
            "fc.weight_fake_quant.fake_quant_enabled": torch.tensor([1]),
        },
        said={"bits": 4, "activations": "unsigned"},
        scale=0.3,
        codes=(0, 15),
        zero=7,
        weight=_rounded(WEIGHT, STEP, (-8, 7)),
    ),
    "code that counts its batches": Form(
        tensors={"fc.aq.s": torch.tensor(0.3), "fc.aq.init_state": torch.tensor(1.0)},
        said={
            "bits": 4,
            "activations": "signed",
            "skip": ["*.init_state"],
            "quantizers": [{"role": "input", "scale": "{layer}.aq.s"}],
        },
        scale=0.3,
        codes=(-8, 7),
        weight=WEIGHT,
    ),
}


def _read(path: Path, tensors: dict[str, torch.Tensor], said: dict[str, Any]) -> AdoptedModel:
    torch.save({**_floats()[0], **tensors}, path / "net.pt")
    return read_checkpoint(path / "net.pt", Layer(), _floats()[1], mapping=said)


@pytest.mark.parametrize("name", FORMS)
def test_it_computes_what_the_library_simulates(name: str, tmp_path: Path) -> None:
    form, (floats, x) = FORMS[name], _floats()
    adopted = _read(tmp_path, form.tensors, form.said)
    expected = F.linear(_rounded(x, form.scale, form.codes, form.zero), form.weight, floats["fc.bias"])
    with torch.no_grad():
        torch.testing.assert_close(adopted.module(x), expected, atol=1e-5, rtol=0)


def test_encodings_beside_may_have_an_offset_for_each_channel(tmp_path: Path) -> None:
    floats, x = _floats()
    zero = torch.tensor([8, 7, 9, 6])
    entries = [{"bitwidth": 4, "scale": float(s), "offset": -int(z)} for s, z in zip(ZERO_TO, zero, strict=True)]
    encodings = {"activation_encodings": {}, "param_encodings": {"fc.weight": entries}}
    (tmp_path / "net.json").write_text(json.dumps(encodings))
    torch.save(floats, tmp_path / "net.pt")
    adopted = read_checkpoint(tmp_path / "net.pt", Layer(), x, encodings=tmp_path / "net.json")
    expected = F.linear(x, _rounded(WEIGHT, ZERO_TO, (0, 15), zero.reshape(-1, 1)), floats["fc.bias"])
    with torch.no_grad():
        torch.testing.assert_close(adopted.module(x), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("narrow", "last"), [(True, -7), (False, -8)])
def test_modelopt_says_whether_the_lowest_code_is_used(narrow: bool, last: int, tmp_path: Path) -> None:
    floats, x = _floats()
    entry = {"_num_bits": 4, "_unsigned": False, "_narrow_range": narrow}
    state = [("quantize", {"metadata": {"quantizer_state": {"fc.input_quantizer": entry}}})]
    model = {**floats, "fc.input_quantizer._amax": torch.tensor(2.1)}
    torch.save({"modelopt_state": {"modelopt_state_dict": state}, "model_state_dict": model}, tmp_path / "net.pt")
    adopted = read_checkpoint(tmp_path / "net.pt", Layer(), x)
    expected = F.linear(_rounded(x, 0.3, (last, 7)), floats["fc.weight"], floats["fc.bias"])
    with torch.no_grad():
        torch.testing.assert_close(adopted.module(x), expected, atol=1e-5, rtol=0)


def test_ranges_that_look_like_logarithms_are_named(tmp_path: Path) -> None:
    """Values reach about 10, of which the logarithm is 3.3; 3.3 as it is would cut most of them off."""
    value = float(_floats()[1].abs().max().log2())
    said = [entry.why for entry in _read(tmp_path, **_brevitas(value)).left]
    assert len(said) == 1 and said[0].startswith("their ranges fit the first batch better as logarithms")
    for known in (_brevitas(value, ranges="log2"), _brevitas(9.0)):
        assert not _read(tmp_path, **known).left


@pytest.mark.parametrize(
    ("tensors", "said", "message"),
    [
        (_brevitas(-0.4)["tensors"], SAID, "has the range -0.8, below zero, as logarithms have it: say ranges ="),
        (
            FORMS["Quark, unsigned weights"].tensors,
            {"bits": 4, "activations": "unsigned"},
            'has the zero point 8, and signed codes end at 7: .* unsigned = \\["fc._weight_quantizer"\\]',
        ),
        (
            {"fc.input_quantizer._amax": torch.tensor(1.0), "fc.input_quantizer._pre_quant_scale": torch.ones(6)},
            {"bits": 4, "activations": "signed"},
            "multiplies its input by a factor for each channel",
        ),
        (
            FORMS["code that counts its batches"].tensors,
            {**FORMS["code that counts its batches"].said, "skip": []},
            "has fc.aq.init_state beside: .* tensors to leave out \\(skip\\)",
        ),
    ],
)
def test_what_has_to_be_said(
    tensors: dict[str, torch.Tensor], said: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(QuantizationError, match=message) as error:
        _read(tmp_path, tensors, said)
    assert "\n" not in str(error.value)


def test_floats_of_few_bits_are_refused(tmp_path: Path) -> None:
    state = [("quantize", {"metadata": {"quantizer_state": {"fc.input_quantizer": {"_num_bits": (4, 3)}}}})]
    model = {**_floats()[0], "fc.input_quantizer._amax": torch.tensor(2.1)}
    torch.save({"modelopt_state": {"modelopt_state_dict": state}, "model_state_dict": model}, tmp_path / "net.pt")
    with pytest.raises(QuantizationError, match="rounds to floats of few bits, which are no integers"):
        read_checkpoint(tmp_path / "net.pt", Layer(), _floats()[1])
