"""data: digits, image folders and npz files; every way in which they can be unusable."""

from __future__ import annotations

import builtins
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from calib.errors import QuantizationError
from lsq_export.data.augment import draw_moves, shift
from lsq_export.data.dataset import Dataset
from lsq_export.data.loading import load
from lsq_export.data.splitting import stratified_split


def _one_line(spec: str, message: str, **options: Any) -> None:
    with pytest.raises(QuantizationError) as caught:
        data = load(spec, **options)
        for split in ("train", "test"):
            list(data.batches(split))
    assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def test_digits_are_normalized_rgb_of_32_pixels(digits: Dataset) -> None:
    assert (digits.num_classes, digits.input_shape) == (10, (3, 32, 32))
    assert (len(digits.train), len(digits.test)) == (1438, 359)
    x = torch.cat([x for x, _ in digits.batches("train", 512)])
    assert x.dtype == torch.float32 and x.shape == (1438, 3, 32, 32)
    assert abs(float(x.mean())) < 1e-3 and abs(float(x.std()) - 1) < 1e-3
    assert torch.equal(x[:, 0], x[:, 2])


def test_digits_can_be_redone_from_the_preprocessing(digits: Dataset) -> None:
    from sklearn.datasets import load_digits

    how = json.loads(json.dumps(digits.preprocessing))
    raw = torch.from_numpy(load_digits().images.astype(np.float32))[:, None]  # [1797, 1, 8, 8]
    x = (
        torch.nn.functional.interpolate(raw, size=how["resize"], mode=how["interpolation"], align_corners=False)
        / how["divide_by"]
    )
    x = (x - how["mean"][0]) / how["std"][0]
    first = next(iter(digits.batches("test", 1)))[0][0, 0]
    assert (x[:, 0] - first).abs().amax((1, 2)).min() < 1e-5  # one of the 1797, up to the order of the divisions


def test_digits_split_is_stratified_and_disjoint(digits: Dataset) -> None:
    train, test = (torch.cat([y for _, y in digits.batches(split)]) for split in ("train", "test"))
    share = torch.bincount(test) / (torch.bincount(test) + torch.bincount(train))
    assert share.min() > 0.19 and share.max() < 0.21
    index_train, index_test = stratified_split(np.array([0, 1] * 10 + [2]), "here")
    assert sorted([*index_train, *index_test]) == list(range(21)) and 20 in index_train and len(index_test) == 4


def test_digits_in_gray_and_another_size() -> None:
    data = load("digits", image_size=16, channels=1)
    assert next(iter(data.batches("test", 5)))[0].shape == (5, 1, 16, 16) == (5, *data.input_shape)


def test_batches_are_seeded_and_can_be_iterated_again(digits: Dataset) -> None:
    batches = digits.batches("train", 100, shuffle=3, augment=True, limit=2)
    first, again, other = (
        list(batches),
        list(batches),
        list(digits.batches("train", 100, shuffle=4, augment=True, limit=2)),
    )
    assert len(batches) == len(first) == 2
    assert all(torch.equal(a, b) and torch.equal(y, z) for (a, y), (b, z) in zip(first, again, strict=True))
    assert not torch.equal(first[0][1], other[0][1])


def test_drop_single_leaves_out_a_last_batch_of_one(digits: Dataset) -> None:
    assert [len(y) for _, y in digits.batches("test", 358)] == [358, 1]
    assert [len(y) for _, y in digits.batches("test", 358, drop_single=True)] == [358]
    assert len(digits.batches("test", 358, drop_single=True)) == 1


def test_batches_behind_a_step_and_shares_of_ranks(digits: Dataset) -> None:
    options: dict[str, Any] = {"shuffle": 3, "augment": True, "limit": 23}
    whole = list(digits.batches("train", 64, **options))  # 22 of 64 and one of 30
    behind = digits.batches("train", 64, skip=20, **options)
    assert len(whole) == 23 and len(behind) == len(list(behind)) == 3
    assert all(
        torch.equal(a, b)
        for one, other in zip(whole[20:], behind, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    assert len(digits.batches("train", 64, skip=30)) == 0 and list(digits.batches("train", 64, skip=30)) == []
    shares = [list(digits.batches("train", 64, skip=20, share=(rank, 40), **options)) for rank in range(40)]
    assert [len(y) for _, y in shares[0]] == [2, 2, 1] and [x.shape for x, _ in shares[39]] == [
        (1, 3, 32, 32),
        (1, 3, 32, 32),
        (0, 3, 32, 32),
    ]
    for i, (x, y) in enumerate(whole[20:]):
        for rank in range(40):
            assert torch.equal(shares[rank][i][0], x[rank::40]) and torch.equal(shares[rank][i][1], y[rank::40])


def test_shift_moves_each_image_and_repeats_the_border() -> None:
    x = torch.arange(64.0).view(1, 1, 8, 8).repeat(50, 1, 1, 1)
    moved = shift(x, 2, draw_moves(50, 2, torch.Generator().manual_seed(0)))
    offsets = {(int(m[0, 4, 4]) // 8 - 4, int(m[0, 4, 4]) % 8 - 4) for m in moved}
    assert moved.shape == x.shape and len(offsets) > 10
    assert all(-2 <= a <= 2 and -2 <= b <= 2 for a, b in offsets)


@pytest.mark.parametrize(
    "spec,options,message",
    [
        ("mnist", {}, "data 'mnist' is unknown: use digits, imagefolder:DIR or npz:FILE"),
        ("npz:", {}, "is unknown"),
        ("digits:x", {}, "is unknown"),
        ("digits", {"channels": 2}, "channels is 2"),
        ("digits", {"image_size": 0}, "image size is 0"),
        ("npz:nowhere.npz", {}, "nowhere.npz does not exist"),
        ("imagefolder:nowhere", {}, "nowhere does not exist"),
    ],
)
def test_bad_spec(spec: str, options: dict[str, Any], message: str) -> None:
    _one_line(spec, message, **options)


def test_bad_split_and_batch_size(digits: Dataset) -> None:
    with pytest.raises(QuantizationError, match="split 'valid' is unknown: use train or test"):
        digits.batches("valid")
    with pytest.raises(QuantizationError, match="batch size is 0"):
        digits.batches("train", 0)


@pytest.mark.parametrize(
    "spec,module,package", [("digits", "sklearn", "scikit-learn"), ("imagefolder:.", "PIL", "pillow")]
)
def test_missing_extra_says_what_to_install(
    spec: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def fake(name: str, *args: Any, **kw: Any) -> Any:
        if name.split(".")[0] == module:
            raise ModuleNotFoundError(name)
        return real(name, *args, **kw)

    monkeypatch.setattr(builtins, "__import__", fake)
    _one_line(spec, rf"needs {package}: pip install lsq-export\[data\]")


# npz


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
    assert (
        x * 255 - torch.from_numpy(_arrays()["x_train"])
    ).abs().max() < 1e-4  # float32 has 24 bits, 255 needs 8 of them
    assert y.tolist() == _arrays()["y_train"].tolist() and data.preprocessing["divide_by"] == 255


def test_npz_takes_float_and_gray_and_splits(tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(20, 6, 6))
    np.savez_compressed(tmp_path / "d.npz", x=x, y=(np.arange(20) % 2).astype(np.uint8))
    data = load(f"npz:{tmp_path / 'd.npz'}", channels=1, image_size=6)
    assert (len(data.train), len(data.test), data.input_shape) == (16, 4, (1, 6, 6))
    assert next(iter(data.batches("test")))[0].dtype == torch.float32


X = np.zeros((20, 3, 6, 5), np.float32)
BAD_NPZ: list[tuple[dict[str, Any], str]] = [
    ({"x_train": None}, "holds x_test, y_test, y_train: it must hold"),
    ({"y_train": np.arange(19) % 4}, "x_train holds 20 samples and y_train 19 labels"),
    ({"x_test": X, "y_test": np.zeros(20, int)}, "x_train is uint8 and x_test is float32"),
    ({"x_train": X.astype(int)}, "x_train is int64: use uint8"),
    ({"x_train": X[0, 0]}, r"x_train has the shape \[6, 5\]"),
    ({"x_train": X[:0].astype(np.uint8), "y_train": np.zeros(0, int)}, r"shape \[0, 3, 6, 5\]"),
    ({"x_train": np.zeros((20, 6, 5, 3), np.uint8)}, "channels last: transpose"),
    ({"x_test": np.zeros((8, 3, 6, 6), np.uint8)}, "make them equal"),
    ({"y_train": np.arange(20) / 4}, "y_train is float64"),
    ({"y_train": np.eye(20, dtype=int)}, "one integer class for each sample"),
    ({"y_train": np.arange(20) - 1}, "label -1"),
    ({"y_train": np.arange(20) + 100}, "label 119, more than it has samples"),
    ({"y_train": np.zeros(20, int), "y_test": np.zeros(8, int)}, "one class only"),
    ({"x_train": np.full_like(X, np.nan), "x_test": X[:8]}, r"x_train holds NaN or infinity \(first in sample 0\)"),
    ({"x_train": np.full(X.shape, 1e300), "x_test": X[:8]}, "NaN or infinity"),
    ({"x_train": np.array([{}] * 20, dtype=object)}, "pickled data"),
]


@pytest.mark.parametrize("changes,message", BAD_NPZ, ids=range(len(BAD_NPZ)))
def test_bad_npz(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **_arrays(**changes))
    _one_line(f"npz:{tmp_path / 'd.npz'}", message)


def test_npz_is_used_as_it_is(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **_arrays())
    _one_line(f"npz:{tmp_path / 'd.npz'}", "channels 3 where 1 is asked for", channels=1)
    _one_line(f"npz:{tmp_path / 'd.npz'}", "width 5 where 6 is asked for", image_size=6)


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
        _one_line(f"npz:{tmp_path / name}.npz", f"{name}.npz (is|holds|cannot be read)")


# imagefolder


def _images(directory: Path, count: int = 5, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> None:
    directory.mkdir(parents=True)
    rng = np.random.default_rng(2)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode).save(
            directory / f"{i}.png"
        )


def test_imagefolder_with_its_own_split(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2)):
        _images(tmp_path / split / "cat", count)
        _images(tmp_path / split / "dog", count, mode="L")
    data = load(f"imagefolder:{tmp_path}", image_size=16)
    assert (data.num_classes, data.input_shape, len(data.train), len(data.test)) == (2, (3, 16, 16), 6, 4)
    assert json.loads(json.dumps(data.preprocessing))["classes"] == ["cat", "dog"]
    x, y = next(iter(data.batches("test", 4)))
    assert x.shape == (4, 3, 16, 16) and y.tolist() == [0, 0, 1, 1]
    x, _ = next(iter(load(f"imagefolder:{tmp_path}", image_size=16, channels=1).batches("test", 4)))
    assert x.shape == (4, 1, 16, 16)


def test_imagefolder_normalizes_and_crops_the_center(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pixels = np.zeros((32, 64, 3), np.uint8)
        pixels[:, 20:44] = (255, 128, 0)
        for i in range(2):
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    x, _ = next(
        iter(load(f"imagefolder:{tmp_path}", image_size=14).batches("train"))
    )  # 32 -> 16 high, then 14 x 14 of 32 x 16
    wanted = (np.array([1, 128 / 255, 0]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert (
        np.abs(x[0, :, 7, 2:12].numpy().T - wanted).max() < 1e-5
    )  # columns 10 … 21 of the resized image are inside the bar, edges aside


def test_imagefolder_of_one_level_is_split(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _images(tmp_path / name, 5)
    data = load(f"imagefolder:{tmp_path}", image_size=16)
    assert (len(data.train), len(data.test)) == (8, 2)
    assert torch.cat([y for _, y in data.batches("test")]).tolist() == [0, 1]


def test_bad_imagefolders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    _one_line(f"imagefolder:{tmp_path / 'empty'}", "has 0 class folders")
    (tmp_path / "no_images" / "a").mkdir(parents=True)
    _images(tmp_path / "no_images" / "b")
    _one_line(f"imagefolder:{tmp_path / 'no_images'}", "no_images/a holds no images")
    _images(tmp_path / "half" / "train" / "a")
    _one_line(f"imagefolder:{tmp_path / 'half'}", "has train/ but neither val/ nor test/")
    _images(tmp_path / "half" / "train" / "b")
    _images(tmp_path / "half" / "test" / "c")
    _one_line(f"imagefolder:{tmp_path / 'half'}", "class 'c' of .*half/test is not in")
    for name in ("a", "b"):
        _images(tmp_path / "single" / name, 1)
    _one_line(f"imagefolder:{tmp_path / 'single'}", "no class has two samples")


@pytest.mark.parametrize(
    "content,message", [(b"no image", "cannot be read"), (None, "cannot be read"), (b"", "cannot be read")]
)
def test_unreadable_image_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        _images(tmp_path / name)
    bad = tmp_path / "b" / "3.png"
    bad.write_bytes(bad.read_bytes()[:300] if content is None else content)
    _one_line(f"imagefolder:{tmp_path}", f"image .*b/3.png {message}")


def test_image_of_16_bits_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _images(tmp_path / name)
    Image.fromarray(np.full((30, 30), 40_000, np.uint16)).save(tmp_path / "a" / "0.png")
    _one_line(f"imagefolder:{tmp_path}", "a/0.png has more than 8 bits a channel")
