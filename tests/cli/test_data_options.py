"""lsq_export/cli/data_options.py: how many images of which data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calib.errors import QuantizationError
from lsq_export.cli.data_options import calibration_batches, check_known, described, first, load_data
from lsq_export.cli.onnx_networks import shaped_data
from lsq_export.data.dataset import Dataset
from lsq_export.data.loading import load
from lsq_export.training.checkpoint import Checkpoint
from support.exported import SHAPE, Exported


@pytest.mark.parametrize(("images", "sizes"), [(5, [5]), (24, [24]), (100, [24])])
def test_calibration_batches_hold_at_least_so_many_images(images: int, sizes: list[int], exported: Exported) -> None:
    data = load_data(exported.data, SHAPE, option="--data")
    batches = [x for x, _ in calibration_batches(data, images)]
    assert [len(x) for x in batches] == sizes
    again = [x for x, _ in calibration_batches(data, images)]
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))


def test_many_images_come_in_batches_of_64(tmp_path: object) -> None:
    x, y = np.zeros((200, 1, 4, 4), np.float32), np.arange(200) % 2
    np.savez(f"{tmp_path}/d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    data = load_data(f"npz:{tmp_path}/d.npz", (1, 4, 4), option="--data")
    assert [len(x) for x, _ in calibration_batches(data, 130)] == [64, 64, 64]


def test_the_first_images() -> None:
    batches = [(torch.full((4, 1), float(i)), torch.arange(4)) for i in range(3)]
    assert [len(x) for x, _ in first(6, batches)] == [4, 2]
    assert [y.tolist() for _, y in first(6, batches)] == [[0, 1, 2, 3], [0, 1]]


def test_images_are_normalized_as_in_the_training(tmp_path: object) -> None:
    x, y = np.arange(8 * 16, dtype=np.uint8).reshape(8, 1, 4, 4), np.arange(8) % 2
    np.savez(f"{tmp_path}/d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    spec, how = f"npz:{tmp_path}/d.npz", {"data": "npz", "mean": [0.5], "std": [0.25]}
    plain = load_data(spec, (1, 4, 4), option="--data")
    like = load_data(spec, (1, 4, 4), option="--data", like=how)
    other = load_data(spec, (1, 4, 4), option="--data", like={**how, "data": "imagefolder"})  # other units
    images = [next(iter(data.batches("test", 8)))[0] for data in (plain, like, other)]
    assert torch.equal(images[1], (images[0] - 0.5) / 0.25) and torch.equal(images[2], images[0])


def test_one_input_needs_no_name_in_the_network(tmp_path: Path) -> None:
    """Tokens alone, and images that are not called x."""
    tokens, images = np.arange(60).reshape(20, 3), np.zeros((20, 1, 4, 4), np.float32)
    np.savez(tmp_path / "t.npz", tokens=tokens)
    np.savez(tmp_path / "i.npz", image=images)
    np.savez(tmp_path / "two.npz", image=images, tokens=tokens)
    data = load_data(f"npz:{tmp_path}/t.npz", (3,), option="--data")
    (x, _), *_ = data.batches("train", 4)
    assert data.input_shape == (3,) and isinstance(x, torch.Tensor) and (x.shape, x.dtype) == ((4, 3), torch.int64)
    assert load_data(f"npz:{tmp_path}/i.npz", (1, 4, 4), option="--data").input_shape == (1, 4, 4)
    assert shaped_data(f"npz:{tmp_path}/i.npz", (1, None, None)).input_shape == (1, 4, 4)
    assert load_data(f"npz:{tmp_path}/t.npz", {"tokens": (3,)}, option="--data").input_shape == {"tokens": (3,)}
    with pytest.raises(QuantizationError, match=r"has the inputs image \[1, 4, 4\] and tokens \[3\], the model"):
        load_data(f"npz:{tmp_path}/two.npz", (1, 4, 4), option="--data")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", image_size=8, channels=1)


def checkpoint_of(data: Dataset, **changes: Any) -> Checkpoint:
    said = {"preprocessing": data.preprocessing, "extra": {"classes": list(data.classes or ())}} | changes
    return Checkpoint(
        path=Path("x"), state={}, model_spec={"name": "tiny"}, config=None, input_shape=data.input_shape, **said
    )


def test_what_a_checkpoint_says_of_its_data_holds_for_other_data(digits: Dataset) -> None:
    """Names come with the checkpoint; a sample only if its data are prepared as those it was trained on."""
    found = described(checkpoint_of(digits), digits, trained_on=True)
    assert found["classes"] == [str(digit) for digit in range(10)] and found["sample"].label is not None
    renamed = replace(digits, classes=tuple("abcdefghij"))
    found = described(checkpoint_of(digits), renamed, trained_on=False)
    assert found["classes"] == [str(digit) for digit in range(10)] and found["sample"].label is None
    others = replace(digits, preprocessing=digits.preprocessing | {"divide_by": 15.0})
    found = described(checkpoint_of(digits), others, trained_on=False)
    assert found["sample"] is None and found["preprocessing"]["divide_by"] == 16.0


def test_names_that_a_checkpoint_lacks(digits: Dataset) -> None:
    """They are those of the data that it was trained on, and of no other; older checkpoints had them elsewhere."""
    older = checkpoint_of(digits, extra={})
    assert described(older, digits, trained_on=True)["classes"] == digits.classes
    assert described(older, digits, trained_on=False)["classes"] is None
    folder = checkpoint_of(digits, extra={}, preprocessing={"classes": ["cat", "dog"]})
    assert described(folder, digits, trained_on=False)["classes"] == ["cat", "dog"]


def test_data_that_are_not_here_are_said_with_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(QuantizationError) as caught:
        check_known("imagefolder:my_images", option="--data")
    assert str(caught.value) == (
        f"image directory my_images does not exist in {tmp_path}: check the path (imagefolder:DIR): the network was "
        "made with imagefolder:my_images, --data SPEC names these data elsewhere, or others"
    )
