"""Inputs of npz files, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib.errors import QuantizationError
from lsq_export.replaying.given_inputs import given_inputs

HOW = {"divide_by": 255.0, "mean": [0.5], "std": [0.25], "resize": None}
ONE: dict[str, Any] = {"input": {"name": "input", "shape": ["batch", 1, 4, 4]}, "preprocessing": HOW}
TOKENS = {"name": "tokens", "shape": ["batch", 3], "type": "int64"}
SEVERAL: dict[str, Any] = {"input": TOKENS, "inputs": [TOKENS, {"name": "mask", "shape": ["batch", 3], "type": "bool"}]}
X = np.random.default_rng(0).normal(size=(5, 1, 4, 4)).astype(np.float32)


@pytest.mark.parametrize("key", ["x", "x_test", "input"])
def test_floats_of_the_right_shape_are_taken_as_they_are(tmp_path: Path, key: str) -> None:
    np.savez(tmp_path / "d.npz", **{key: X})
    assert np.array_equal(given_inputs(tmp_path / "d.npz", ONE), X)
    assert len(given_inputs(tmp_path / "d.npz", ONE, most=3)) == 3


def test_pixels_are_preprocessed(tmp_path: Path) -> None:
    pixels = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    np.savez(tmp_path / "d.npz", x=pixels)
    expected = (pixels[:, None].astype(np.float32) / 255 - 0.5) / 0.25
    assert np.allclose(given_inputs(tmp_path / "d.npz", ONE), expected, atol=1e-6)


def test_several_inputs_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", tokens=np.ones((2, 3), np.int32), mask=np.ones((2, 3), bool))
    found = given_inputs(tmp_path / "d.npz", SEVERAL)
    assert isinstance(found, dict) and found["tokens"].dtype == np.int64 and found["mask"].dtype == bool


@pytest.mark.parametrize(
    ("arrays", "manifest", "said"),
    [
        ({"a": X}, ONE, "has a: give the inputs the name x_test or x"),
        ({"x": X[:0]}, ONE, "x has no samples: give at least one"),
        ({"x": X[..., :3]}, ONE, "x cannot be preprocessed"),
        ({"x": X[..., :3]}, {**ONE, "preprocessing": None}, "the bundle has no preprocessing: give float32"),
        ({"tokens": np.ones((2, 3))}, SEVERAL, "mask is missing: it has tokens; the network takes"),
        ({"tokens": np.ones((2, 4))}, SEVERAL, "tokens is [2, 4]; the network takes ['N', 3]"),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, arrays: dict[str, Any], manifest: dict[str, Any], said: str
) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(QuantizationError) as error:
        given_inputs(tmp_path / "d.npz", manifest)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_no_file_of_arrays(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(b"nothing")
    for name in ("d.npz", "none.npz"):
        with pytest.raises(QuantizationError, match="give"):
            given_inputs(tmp_path / name, ONE)
