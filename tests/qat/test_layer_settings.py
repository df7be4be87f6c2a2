"""qat.layer_settings: patterns over names of layers, and what is said of bad ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from torch import nn

import lsq_export
from calib import QuantizationError
from lsq_export.qat.prepare_model import float_layers, settings_of_layers
from support import networks
from support.published import published


def residual() -> nn.Module:
    return networks.residual().eval()


def bits(layers: dict[str, Any], **options: Any) -> dict[str, tuple[int, int] | None]:
    """{layer: (bits of weights, of activations)}; None: it stays float."""
    config = published(4, 4, layers=layers, **options)
    return {
        name: settings and (settings.weight_bits, settings.activation_bits)
        for name, settings in settings_of_layers(residual(), config).items()
    }


def test_wishes_by_name_and_pattern_in_order() -> None:
    names = lsq_export.layer_names(residual())
    first, last, inner = names[0], names[-1], names[1]
    assert bits({}) == {name: (8, 8) if name in (first, last) else (4, 4) for name in names}
    assert bits({inner: {"weight_bits": 2}})[inner] == (2, 4)
    assert bits({"*": {"weight_bits": 3}, inner: {"activation_bits": 5}})[inner] == (3, 5)
    assert bits({inner: {"weight_bits": 2}, "*": {"weight_bits": 3}})[inner] == (3, 4)
    wished = bits({"*": "float", inner: {"weight_bits": 2}})
    assert wished == {name: (2, 4) if name == inner else None for name in names}
    assert bits({first: {"weight_bits": 3}})[first] == (3, 8), "the wish wins; the rest is that of the first layer"
    assert bits({last: "float"})[last] is None and bits({last: "float"})[names[-2]] == (4, 4)


def test_a_prepared_model_has_them() -> None:
    names = lsq_export.layer_names(residual())
    wish = {"weight_granularity": "channel", "activation_grid": "signed-asymmetric", "offset": "integer"}
    model = lsq_export.prepare(residual(), published(layers={names[1]: wish, names[2]: "float"}))
    found = lsq_export.quantizers(model)
    assert found[f"{names[1]}.weight"].axis == 0 and found[f"{names[3]}.weight"].axis is None
    own, other = found[f"{names[1]}.input"], found[f"{names[3]}.input"]
    assert own.qmin < 0 and own.integer_offset and other.qmin == 0 and not other.integer_offset
    assert not any(name.startswith(f"{names[2]}.") for name in found) and float_layers(model) == [names[2]]
    weight = model.get_submodule(names[2]).weight
    assert isinstance(weight, nn.Parameter) and weight.requires_grad


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ({"a": {"bits": 4}}, r"layers\['a'\]: unknown setting 'bits': use weight_bits, activation_bits"),
        ({"a": {"weight_bits": 9}}, r"layers\['a'\]: weight_bits=9: use 2 to 8"),
        ({"a": {"weight_bits": True}}, r"layers\['a'\]: weight_bits=True"),
        ({"a": {"offset": "exact"}}, r"layers\['a'\]: offset='exact': use one of real, integer, container"),
        ({"a": "fp32"}, r"layers\['a'\]='fp32': use \"float\""),
        ({"a": {}}, r"layers\['a'\] is empty"),
        ({"features": {"0": {"weight_bits": 4}}}, "a name with dots needs quotes"),
        ({3: "float"}, "3 is no name"),
        (["a"], "use a table"),
    ],
)
def test_a_bad_wish_is_named(layers: Any, says: str) -> None:
    with pytest.raises(QuantizationError, match=says) as error:
        published(layers=layers)
    assert "\n" not in str(error.value)


def test_a_pattern_that_matches_nothing_lists_near_names() -> None:
    with pytest.raises(QuantizationError, match=r"layers\['dwn'\] matches no layer \(did you mean down") as error:
        bits({"dwn": "float"})
    assert all(name in str(error.value) for name in lsq_export.layer_names(residual()))
    assert "lsq_export.layer_names(model)" in str(error.value)
    with pytest.raises(QuantizationError, match="nothing to quantize: `layers` keeps every layer float"):
        bits({"*": "float"})


def test_the_configuration_keeps_them() -> None:
    wishes: dict[str, Any] = {"a": {"weight_bits": 8}, "b*": "float"}
    config = published(layers=wishes)
    assert lsq_export.QATConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert hash(config) == hash(published()) and config != published()
    wishes["a"]["weight_bits"] = 2
    assert config.layers["a"] == {"weight_bits": 8}, "what the caller changes later does not matter"
    old = {name: value for name, value in config.to_dict().items() if name != "layers"}
    assert lsq_export.QATConfig.from_dict(old).layers == {}, "of a checkpoint that was written before there were any"
