"""LSQ+ code from anywhere, by a mapping file: names of steps and offsets, against a simulation of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from calib.errors import QuantizationError, QuantizationWarning
from lsq_export import adopt
from lsq_export.checkpoints.network import read_checkpoint
from support.adopted import inputs
from support.other_libraries import Net

TOML = """
bits = 4
activations = "unsigned"

[[quantizers]]
role = "weight"
scale = "{layer}.quan_w_fn.s"

[[quantizers]]
role = "input"
scale = "{layer}.quan_a_fn.s"
offset = "{layer}.quan_a_fn.beta"
"""
WEIGHTS = {"role": "weight", "scale": "{layer}.quan_w_fn.s"}
INPUTS = {"role": "input", "scale": "{layer}.quan_a_fn.s", "offset": "{layer}.quan_a_fn.beta"}
MAPPING = {"bits": 4, "activations": "unsigned", "quantizers": [WEIGHTS, INPUTS]}


def _lsq(x: torch.Tensor, s: torch.Tensor, beta: torch.Tensor, first: int, last: int) -> torch.Tensor:
    return ((x - beta) / s).clamp(first, last).round() * s + beta


def _checkpoint(path: Path, **changed: torch.Tensor) -> dict[str, torch.Tensor]:
    """A training's file: the network's tensors with steps and offsets, an optimizer beside them."""
    torch.manual_seed(3)
    state = Net().state_dict()
    for layer in ("conv1", "dw", "fc"):
        state[f"{layer}.quan_w_fn.s"] = torch.tensor([0.04]) + 0.02 * torch.rand(1)
        state[f"{layer}.quan_a_fn.s"] = torch.tensor([0.2]) + 0.1 * torch.rand(1)
        state[f"{layer}.quan_a_fn.beta"] = -0.31 * torch.rand(1)
    state |= changed
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"state": {0: torch.ones(2)}}}, path)
    return dict(state)


def _simulated(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """What LSQ+ code computes, in torch alone."""

    def data(layer: str, value: torch.Tensor) -> torch.Tensor:
        return _lsq(value, state[f"{layer}.quan_a_fn.s"], state[f"{layer}.quan_a_fn.beta"], 0, 15)

    def weight(layer: str) -> torch.Tensor:
        return _lsq(state[f"{layer}.weight"], state[f"{layer}.quan_w_fn.s"], torch.zeros(1), -8, 7)

    y = F.conv2d(data("conv1", x), weight("conv1"), padding=1)
    norm = [state[f"bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    y = F.relu(F.batch_norm(y, *norm))
    z = F.silu(F.conv2d(data("dw", y), weight("dw"), state["dw.bias"], padding=1, groups=8)) + y
    return F.linear(data("fc", z.mean((2, 3))), weight("fc"), state["fc.bias"])


@pytest.mark.parametrize("kind", ["toml", "json", "dict"])
def test_a_mapping_says_what_names_mean(kind: str, tmp_path: Path) -> None:
    state = _checkpoint(tmp_path / "net.pth")
    (tmp_path / "map.toml").write_text(TOML)
    (tmp_path / "map.json").write_text(json.dumps(MAPPING))
    mapping: Any = MAPPING if kind == "dict" else tmp_path / f"map.{kind}"
    adopted = read_checkpoint(tmp_path / "net.pth", Net(), inputs(), mapping=mapping)
    with torch.no_grad():
        found = adopted.module(inputs())
    torch.testing.assert_close(found, _simulated(state, inputs()), atol=1e-5, rtol=0)
    assert adopted.library == "the mapping" and not adopted.left


def test_it_becomes_a_bundle_with_real_offsets(tmp_path: Path) -> None:
    state = _checkpoint(tmp_path / "net.pth")
    bundle = adopt(tmp_path / "net.pth", tmp_path / "out", model=Net(), mapping=MAPPING, calibration=[inputs()])
    assert bundle.parity is not None and bundle.parity.ok
    offsets = {entry["name"]: entry["offset"] for entry in bundle.manifest["tensors"]}
    assert offsets["grids.fc"] == pytest.approx(float(state["fc.quan_a_fn.beta"]))


def test_numbers_stand_for_tensors_that_the_file_has_not(tmp_path: Path) -> None:
    state = _checkpoint(tmp_path / "net.pth")
    of_dw = {**INPUTS, "layer": "dw", "scale": 0.25, "offset": -0.125}
    rest = [{**INPUTS, "layer": layer, **_named(layer)} for layer in ("conv1", "fc")]
    mapping = {**MAPPING, "quantizers": [WEIGHTS, of_dw, *rest], "skip": []}
    del state["dw.quan_a_fn.s"], state["dw.quan_a_fn.beta"]
    torch.save(state, tmp_path / "net.pth")
    adopted = read_checkpoint(tmp_path / "net.pth", Net(), inputs(), mapping=mapping)
    state |= {"dw.quan_a_fn.s": torch.tensor([0.25]), "dw.quan_a_fn.beta": torch.tensor([-0.125])}
    with torch.no_grad():
        torch.testing.assert_close(adopted.module(inputs()), _simulated(state, inputs()), atol=1e-5, rtol=0)


def _named(layer: str) -> dict[str, str]:
    return {key: INPUTS[key].replace("{layer}", layer) for key in ("scale", "offset")}


def test_rounding_away_from_zero_is_counted(tmp_path: Path) -> None:
    _checkpoint(
        tmp_path / "net.pth", **{"conv1.quan_a_fn.s": torch.tensor([0.5]), "conv1.quan_a_fn.beta": torch.zeros(1)}
    )
    x = torch.zeros(2, 3, 16, 16)
    x[:, :, 0, :3] = torch.tensor([0.25, 0.75, 0.7])  # 0.5, 1.5 and 1.4 steps
    x[:, :, 1, 0] = -0.25  # below the range: it is the first code either way
    mapping = {**MAPPING, "quantizers": [WEIGHTS, {**INPUTS, "rounding": "half-away"}]}
    left = {entry.name: entry.why for entry in read_checkpoint(tmp_path / "net.pth", Net(), x, mapping=mapping).left}
    assert "12 of 1536 values of the first batch are halves" in left["conv1.quan_a_fn.s"]
    with pytest.warns(QuantizationWarning, match="rounds halves away from zero"):
        adopt(tmp_path / "net.pth", tmp_path / "out", model=Net(), mapping=mapping, calibration=[x + 0.01])


def test_weights_are_rounded_as_the_code_does(tmp_path: Path) -> None:
    weight = torch.zeros(10, 8)
    weight[0, :4] = torch.tensor([0.25, 0.75, -0.25, -0.75])
    _checkpoint(tmp_path / "net.pth", **{"fc.weight": weight, "fc.quan_w_fn.s": torch.tensor([0.5])})
    for rounding, expected in (("half-even", [0.0, 1.0, 0.0, -1.0]), ("half-away", [0.5, 1.0, -0.5, -1.0])):
        mapping = {**MAPPING, "quantizers": [{**WEIGHTS, "rounding": rounding}, INPUTS]}
        module = read_checkpoint(tmp_path / "net.pth", Net(), inputs(), mapping=mapping).module
        assert module.get_submodule("fc").weight[0, :4].tolist() == expected


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"foo": 1}, "'foo' is not known: use library"),
        ({"bits": 9}, "bits is 9: give 2"),
        ({"bits": True}, "bits is True"),
        ({"activations": "both"}, "activations is 'both': use one of unsigned, signed"),
        ({"quantizers": {}}, "quantizers is no list"),
        ({"quantizers": [1]}, "quantizers 1 is no table"),
        ({"quantizers": [{"scale": "x"}]}, "quantizers 1 has no role: use one of weight, input, output"),
        ({"quantizers": [{**WEIGHTS, "role": "wgt"}]}, "role is 'wgt': use one of weight, input, output"),
        ({"quantizers": [{**WEIGHTS, "rounding": "floor"}]}, "rounding is 'floor': use one of half-even, half-away"),
        ({"quantizers": [{"role": "weight"}]}, "give scale"),
        ({"quantizers": [{"role": "input", "low": -1.0}]}, "low with high or range"),
        ({"quantizers": [{"role": "input", "scale": [True]}]}, "scale is [True]"),
        ({"quantizers": [{"role": "input", "scale": 0.5}]}, 'say where it is, layer = "NAME"'),
        (
            {"quantizers": [{**WEIGHTS, "scale": "{layer}.wq.s"}]},
            "no tensor of the checkpoint is called '{layer}",
        ),
        ({"quantizers": [{**INPUTS, "offset": "{layer}.b"}]}, "no tensor of numbers that is called 'conv1.b'"),
        ({"quantizers": [{**WEIGHTS, "layer": "head"}], "bits": 4}, "the network has no head"),
        ({"quantizers": [WEIGHTS], "bits": 4}, "has conv1.quan_a_fn.s, conv1.quan_a_fn.beta, dw.quan_a_fn.s, …"),
        ({"quantizers": [WEIGHTS, INPUTS]}, "how many bits conv1.quan_w_fn.s has"),
        ({"quantizers": [WEIGHTS, INPUTS], "bits": 4}, "whether conv1.quan_a_fn.s has signed codes"),
        ({"library": "PPQ"}, "library 'PPQ' is not known: use one of torch.ao"),
        ({"places": ["x"]}, "places is no table of names"),
        ({"unsigned": "relu"}, "unsigned is no list of names"),
        ([], "the mapping is no table"),
        (None, "has 3 scales as LSQ+ (s, beta) keeps them, such as conv1.quan_a_fn.s"),
    ],
)
def test_mappings_that_do_not_do(mapping: Any, said: str, tmp_path: Path) -> None:
    _checkpoint(tmp_path / "net.pth")
    (tmp_path / "map.json").write_text(json.dumps(mapping))
    given = None if mapping is None else tmp_path / "map.json"
    with pytest.raises(QuantizationError) as error:
        adopt(tmp_path / "net.pth", tmp_path / "out", model=Net(), mapping=given, calibration=[inputs()])
    assert said in str(error.value).replace(str(given), "the mapping").replace("mapping the mapping", "the mapping")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "said"), [("no.toml", "cannot be read"), ("map.toml", "no TOML"), ("map.json", "no JSON")]
)
def test_files_that_are_no_mapping(name: str, said: str, tmp_path: Path) -> None:
    _checkpoint(tmp_path / "net.pth")
    for other in ("map.toml", "map.json"):
        (tmp_path / other).write_text("= {")
    with pytest.raises(QuantizationError, match=said) as error:
        read_checkpoint(tmp_path / "net.pth", Net(), inputs(), mapping=tmp_path / name)
    assert "\n" not in str(error.value)
