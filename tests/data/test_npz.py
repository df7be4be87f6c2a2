"""data.npz: what is read, and every way in which a file can be unusable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calib.errors import QuantizationError, QuantizationWarning
from lsq_export.data.loading import load
from lsq_export.training.fit import pretrain
from support.unusable import assert_unusable


def _arrays(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (20, 3, 6, 5), dtype=np.uint8), np.arange(20) % 4
    arrays = {"x_train": x, "y_train": y, "x_test": x[:8], "y_test": y[:8], **changes}
    return {name: array for name, array in arrays.items() if array is not None}


def test_npz_scales_uint8(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **_arrays())
    data = load(f"npz:{tmp_path / 'd.npz'}")
    assert (data.num_classes, data.input_shape, len(data.train), len(data.test)) == (4, (3, 6, 5), 20, 8)
    x, y = next(iter(data.batches("train", 20)))
    # float32 has 24 bits, 255 needs 8 of them
    assert (x * 255 - torch.from_numpy(_arrays()["x_train"])).abs().max() < 1e-4
    assert y.tolist() == _arrays()["y_train"].tolist() and data.preprocessing["divide_by"] == 255


def test_npz_takes_float_and_gray_and_splits(tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(20, 6, 6))
    np.savez_compressed(tmp_path / "d.npz", x=x, y=(np.arange(20) % 2).astype(np.uint8))
    data = load(f"npz:{tmp_path / 'd.npz'}", channels=1, image_size=6)
    assert (len(data.train), len(data.test), data.input_shape) == (16, 4, (1, 6, 6))
    assert next(iter(data.batches("test")))[0].dtype == torch.float32


def test_npz_may_name_its_classes(tmp_path: Path) -> None:
    for names in (None, np.array(["a", "b", "c", "d"])):
        np.savez(tmp_path / "d.npz", **_arrays(classes=names))
        assert load(f"npz:{tmp_path / 'd.npz'}").classes == (None if names is None else ("a", "b", "c", "d"))


X = np.zeros((20, 3, 6, 5), np.float32)


BAD_NPZ: list[tuple[dict[str, Any], str]] = [
    ({"x_train": None}, "holds x_test, y_test, y_train: it must hold"),
    ({"y_train": np.arange(19) % 4}, "x_train holds 20 samples and y_train 19 labels"),
    ({"x_test": X, "y_test": np.zeros(20, int)}, "x_train is uint8 and x_test is float32"),
    ({"x_train": X.astype(int)}, r"x_train is int64: use uint8 .* for images; tokens go by another name"),
    ({"x_train": X[0, 0]}, r"x_train has the shape \[6, 5\]"),
    ({"x_train": X[:0].astype(np.uint8), "y_train": np.zeros(0, int)}, r"shape \[0, 3, 6, 5\]"),
    ({"x_train": np.zeros((20, 6, 5, 3), np.uint8)}, "channels last: transpose"),
    ({"x_test": np.zeros((8, 3, 6, 6), np.uint8)}, "make them equal"),
    ({"y_train": np.arange(20) / 4}, "y_train is float64"),
    ({"y_train": np.arange(20) / 4}, "one integer class for each sample"),
    ({"y_train": np.arange(20) - 1}, "label -1"),
    ({"y_train": np.arange(20) + 100}, "label 119, more than it has samples"),
    ({"y_train": np.zeros(20, int), "y_test": np.zeros(8, int)}, "one class only"),
    ({"x_train": np.full_like(X, np.nan), "x_test": X[:8]}, r"x_train holds NaN or infinity \(first in sample 0\)"),
    ({"x_train": np.full(X.shape, 1e300), "x_test": X[:8]}, "NaN or infinity"),
    ({"classes": np.array(["a", "b"])}, r"classes is <U1 of shape \[2\]: use 4 strings"),
    ({"classes": np.arange(4)}, "classes is int64 of shape"),
    ({"x_train": np.array([{}] * 20, dtype=object)}, "pickled data"),
]


@pytest.mark.parametrize("changes,message", BAD_NPZ, ids=range(len(BAD_NPZ)))
def test_bad_npz(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **_arrays(**changes))
    assert_unusable(f"npz:{tmp_path / 'd.npz'}", message)


def test_npz_is_used_as_it_is(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **_arrays())
    assert_unusable(f"npz:{tmp_path / 'd.npz'}", "channels 3 where 1 is asked for", channels=1)
    assert_unusable(f"npz:{tmp_path / 'd.npz'}", "width 5 where 6 is asked for", image_size=6)


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **_arrays())
    whole = (tmp_path / "d.npz").read_bytes()
    np.save(tmp_path / "single.npy", X)
    cases = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"hello",
        "single": (tmp_path / "single.npy").read_bytes(),
    }
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    cases["flipped"] = bytes(flipped)
    for name, content in cases.items():
        (tmp_path / f"{name}.npz").write_bytes(content)
        assert_unusable(f"npz:{tmp_path / name}.npz", f"{name}.npz (is|holds|cannot be read)")


def test_samples_without_classes(tmp_path: Path) -> None:
    """Calibration asks for none: x alone, or both splits of it."""
    x = np.random.default_rng(0).normal(size=(20, 3, 8, 8)).astype(np.float32)
    for arrays, sizes in (({"x": x}, (16, 4)), ({"x_train": x, "x_test": x[:5]}, (20, 5))):
        np.savez(tmp_path / "data.npz", **arrays)
        data = load(f"npz:{tmp_path / 'data.npz'}")
        assert (len(data.train), len(data.test)) == sizes and data.num_classes == 0 and "no classes" in repr(data)
        (x0, y0) = next(iter(data.batches("train", 4)))
        assert x0.shape == (4, 3, 8, 8) and y0.shape == (4, 0)
        sample = data.sample()
        assert sample is not None and sample.label is None


def test_masks_are_no_classes_of_samples_and_that_is_said(tmp_path: Path) -> None:
    x = np.zeros((20, 3, 8, 8), np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=np.zeros((20, 8, 8), np.int64))
    with pytest.warns(QuantizationWarning, match=r"y has the shape \[20, 8, 8\], which is no class for each sample"):
        assert load(f"npz:{tmp_path / 'data.npz'}").num_classes == 0


def test_nothing_is_trained_without_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(20, 3, 8, 8)).astype(np.float32))
    with pytest.raises(QuantizationError, match="has no classes to train on"):
        pretrain(torch.nn.Flatten(), load(f"npz:{tmp_path / 'data.npz'}"), 1)
