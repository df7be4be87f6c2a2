"""Files of exporters that lose limits of 4 bits are adopted with a warning; no others are."""

from __future__ import annotations

from pathlib import Path

import pytest

from calib.errors import QuantizationWarning
from lsq_export import adopt
from support.adopted import ADOPTED, SAMPLES, UNLIMITED, inputs, read


@pytest.mark.parametrize("name", ADOPTED)
def test_files_that_lack_limits_are_known_by_their_weights(name: str) -> None:
    assert bool(read(name).unlimited) == (name in UNLIMITED)


def test_a_warning_names_the_layers(tmp_path: Path) -> None:
    with pytest.warns(
        QuantizationWarning, match="node_conv2d and 2 more layers have weights of 4 bits in no type of 4"
    ):
        adopt(SAMPLES / f"{UNLIMITED[-1]}.onnx", tmp_path / "bundle", calibration=inputs().split(4))
