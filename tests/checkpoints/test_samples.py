"""Checkpoints of nine libraries in the float network: what is adopted computes what their own simulations computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lsq_export import adopt
from support.adopted import SAMPLES, differing, inputs
from support.other_libraries import CASES, adopted, outputs_of, simulated

# One input value lies within float32's rounding of a tie, see below: an image's pooled value is one code away.
TIES = {"NNCF, 4 bits": 10}
ONE_A_LIBRARY = ("torch.ao, 8 bits", "torchao, x86", "AIMET", "ModelOpt, a real offset")


@pytest.mark.parametrize("name", CASES)
def test_what_is_adopted_computes_what_the_library_simulates(name: str) -> None:
    assert differing(outputs_of(adopted(name).module), simulated(name)) == TIES.get(name, 0)


def test_where_nncf_differs_is_a_tie() -> None:
    """NNCF computes round((x - low) · (255 / range) - z), integers round(x / s): of 6,144 values one lies between."""
    network = adopted("NNCF, 4 bits")
    state = torch.load(SAMPLES / "nncf" / "qat_w4a8_npu_state_dict.pt", weights_only=True)
    front = "__nncf_hooks.post_hooks.x__0.0"
    low, width = (state[f"{front}.{key}"] for key in ("input_low", "input_range"))
    top = low + width
    zero = torch.round(-low * (255 / width))
    moved = (zero - 255) / zero * low  # the upper end, so that zero is a code: the wider of the two ways
    low = low if moved - low > top - zero / (zero - 255) * top else zero / (zero - 255) * top
    width = moved - low if moved - low > width else width
    x = inputs()
    theirs = torch.round((x.clamp(low, low + width) - low) * (255 / width) - zero)
    quantizer = network.module.get_submodule(network.places[front])
    ours = (quantizer(x) / quantizer.scale).round().detach()
    steps = (x.double() / quantizer.scale.double()).detach()
    (place,) = (theirs != ours).nonzero().tolist()
    assert abs(abs(float(steps[tuple(place)] % 1)) - 0.5) < 1e-5
    rows = np.abs(outputs_of(network.module) - simulated("NNCF, 4 bits")).max(axis=1) > 1e-5
    assert rows.nonzero()[0].tolist() == [place[0]]


def test_every_grid_is_where_the_library_has_it() -> None:
    places = adopted("AIMET").places
    assert len(places) == 12 and places["silu.mul.output_quantizers.0"] == "grids.silu_mul"
    assert places["conv1.param_quantizers.weight"] == "conv1.weight"


@pytest.mark.parametrize("name", ["torch.ao, 4 bits", "Brevitas", "ModelOpt, 8 bits"])
def test_another_scale_is_seen(name: str) -> None:
    """The comparison can fail: one grid that is a twentieth wider makes other outputs."""
    network = adopted(name)
    quantizer = network.module.get_submodule(next(v for v in network.places.values() if v.startswith("grids.")))
    quantizer.scale.mul_(1.05)
    assert differing(outputs_of(network.module), simulated(name)) > 5


def _check_export(name: str, out: Path) -> None:
    case = CASES[name]
    bundle = adopt(SAMPLES / case.file, out, model=case.net(), calibration=[inputs()], **case.said)
    assert bundle.parity is not None and bundle.parity.ok
    assert bundle.parity.capture_error is not None and bundle.parity.capture_error < 1e-5
    assert bundle.manifest["source"]["file"] == case.file.rpartition("/")[2]


@pytest.mark.parametrize("name", ONE_A_LIBRARY)
def test_all_promises_hold(name: str, tmp_path: Path) -> None:
    _check_export(name, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in ONE_A_LIBRARY])
def test_all_promises_hold_of_the_others(name: str, tmp_path: Path) -> None:
    _check_export(name, tmp_path / "out")
