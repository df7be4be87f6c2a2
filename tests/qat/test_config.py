"""qat.config: options that are refused, and plain values."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from calib import QuantizationError
from lsq_export.qat.prepare_model import QATConfig


@pytest.mark.parametrize(
    ("option", "value", "choices"),
    [
        ("weight_bits", 1, "2 to 8"),
        ("activation_bits", 9, "2 to 8"),
        ("activation_bits", 4.0, "2 to 8"),
        ("weight_bits", None, "2 to 8"),
        ("first_last_bits", 16, "2 to 8, or None"),
        (
            "activation_grid",
            "asymmetric",
            "unsigned-symmetric, signed-symmetric, signed-asymmetric, unsigned-asymmetric",
        ),
        ("weight_granularity", "layer", "tensor, channel"),
        ("offset", "float", "real, integer, container"),
    ],
)
def test_config_refuses(option: str, value: Any, choices: str) -> None:
    with pytest.raises(QuantizationError) as error:
        QATConfig(**{option: value})
    assert str(error.value).startswith(f"{option}={value!r}: use") and str(error.value).endswith(choices)


def test_config_round_trip() -> None:
    config = QATConfig(2, 3, "signed-symmetric", "channel", None, "integer")
    assert QATConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert QATConfig.from_dict({}) == QATConfig(4, 4, "unsigned-asymmetric", "tensor", 8, "container", "auto")
    with pytest.raises(QuantizationError, match="unknown option 'bits'"):
        QATConfig.from_dict({"bits": 4})
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.weight_bits = 4  # type: ignore[misc]
