"""npz files with an array for each input of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calib.errors import QuantizationError
from calib.samples import Samples
from lsq_export.data.loading import load

RNG = np.random.default_rng(0)
INPUTS: dict[str, np.ndarray] = {
    "image": RNG.random((20, 3, 6, 5)),
    "tokens": RNG.integers(0, 9, (20, 7), dtype=np.int32),
    "mask": RNG.random((20, 7)) > 0.3,
}
Y = np.arange(20) % 4


def saved(tmp_path: Path, arrays: dict[str, Any]) -> str:
    np.savez(tmp_path / "d.npz", **arrays)
    return f"npz:{tmp_path / 'd.npz'}"


def test_arrays_are_inputs_by_name(tmp_path: Path) -> None:
    data = load(saved(tmp_path, {**INPUTS, "y": Y}))
    assert data.input_shape == {"image": (3, 6, 5), "tokens": (7,), "mask": (7,)} and not data.of_images
    assert (data.num_classes, len(data.train), len(data.test)) == (4, 16, 4)
    seen = [(x, y) for split in ("train", "test") for x, y in data.batches(split, 3, augment=True)]
    assert all(isinstance(x, Samples) and len(x) == len(y) for x, y in seen)
    kinds = {name: tensor.dtype for name, tensor in seen[0][0].by_name.items()}
    assert kinds == {"image": torch.float32, "tokens": torch.int64, "mask": torch.bool}
    samples = {tuple(x.by_name["tokens"][i].tolist()): int(y[i]) for x, y in seen for i in range(len(x))}
    assert samples == {tuple(row): int(label) for row, label in zip(INPUTS["tokens"].tolist(), Y, strict=True)}


def test_both_splits_may_be_given(tmp_path: Path) -> None:
    halves = {"_train": slice(0, 12), "_test": slice(12, 20)}
    arrays = {f"{name}{end}": array[part] for name, array in {**INPUTS, "y": Y}.items() for end, part in halves.items()}
    data = load(saved(tmp_path, arrays))
    assert (len(data.train), len(data.test), list(data.input_shape)) == (12, 8, ["image", "tokens", "mask"])
    del arrays["mask_test"]
    with pytest.raises(QuantizationError, match="the input mask is in one split only"):
        load(saved(tmp_path, arrays))


def test_inputs_alone_are_enough_without_classes(tmp_path: Path) -> None:
    halves = {"_train": slice(0, 12), "_test": slice(12, 20)}
    split = {f"{name}{end}": array[part] for name, array in INPUTS.items() for end, part in halves.items()}
    for arrays, sizes in ((INPUTS, (16, 4)), (split, (12, 8))):
        data = load(saved(tmp_path, arrays))
        assert data.input_shape == {"image": (3, 6, 5), "tokens": (7,), "mask": (7,)}
        assert (len(data.train), len(data.test)) == sizes and data.num_classes == 0 and "no classes" in repr(data)
        x, y = next(iter(data.batches("train", 4)))
        assert len(x) == len(y) == 4 and y.shape == (4, 0)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "holds nothing: it must hold"),
        ({**INPUTS, "y_train": Y}, "it must hold x_train"),
        ({**INPUTS, "tokens": np.array(3)}, r"tokens has the shape \[\], there are 20 samples of image"),
        ({"mask": np.array(True), "tokens": np.array(3)}, "mask has the shape"),
        ({"mask": np.zeros((0, 3)), "tokens": np.zeros((0, 3))}, "it has 0 samples, so there is nothing to test on"),
    ],
)
def test_what_is_no_set_of_inputs_is_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        load(saved(tmp_path, arrays))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": np.array(["a"] * 20)}, "tokens is <U1: use float32, int64 or bool"),
        ({"mask": INPUTS["mask"][:19]}, r"mask has the shape \[19, 7\], there are 20 classes"),
        ({"image": np.full((20, 3), np.nan)}, "image holds NaN"),
        ({"y": Y - 1}, "y is int64 of shape"),
        ({"y": Y.astype(float)}, "y is float64"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        load(saved(tmp_path, {**INPUTS, "y": Y, **changes}))


def test_options_for_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="go to the network as they are: leave --image-size"):
        load(saved(tmp_path, {**INPUTS, "y": Y}), mean=[0.5])
