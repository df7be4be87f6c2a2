"""lsq_export/bundle/sample.py: the receiver's preprocessing makes of the sample what training makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import lsq_export
from calib.errors import QuantizationError
from lsq_export.bundle import run
from lsq_export.bundle.golden import read_golden
from lsq_export.bundle.origin import Origin
from lsq_export.bundle.reading import Files
from lsq_export.bundle.sample import prepared_input
from lsq_export.data.loading import load
from lsq_export.data.sample import Sample
from support.bundles import export
from support.exported import SHAPE, Exported, images

HOW = {"resize": None, "divide_by": 255.0, "mean": [0.4], "std": [0.3]}
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
X = (PIXELS[None].astype(np.float32) / np.float32(255) - np.float32(0.4)) / np.float32(0.3)


def test_the_sample_is_the_first_golden_input(model: nn.Module, tmp_path: Path) -> None:
    bundle = export(model, tmp_path / "out", preprocessing=HOW, sample=Sample(PIXELS, torch.from_numpy(X), 4))
    assert np.array_equal(np.asarray(Image.open(bundle.directory / "sample/input.png")), PIXELS)
    wanted = np.load(bundle.directory / "sample/output.npy")
    for name in bundle.models:
        x, outputs = read_golden(Files(bundle.directory), name)
        assert x.shape == (2, *SHAPE) and np.array_equal(x[0], X) and np.array_equal(x[1], images(seed=0)[0][0])
        assert np.array_equal(next(iter(outputs.values()))[:1], wanted)
    entry = bundle.manifest["sample"]
    assert (entry["class"], entry["label"], entry["prepared"]) == (int(wanted.argmax()), 4, False)
    assert (entry["type"], entry["shape"], entry["range"]) == ("uint8", [16, 16], [PIXELS.min(), PIXELS.max()])
    assert lsq_export.verify(model, bundle, [images(seed=0)[0]]).ok


def test_without_a_sample_the_first_input_is_it(exported: Exported) -> None:
    bundle = exported.bundle
    entry = bundle.manifest["sample"]
    assert entry["prepared"] and entry["label"] is None and entry["file"] == "sample/input.npy"
    assert np.array_equal(np.load(bundle.directory / entry["file"]), exported.inputs[0])


def test_noise_stands_for_the_data_where_that_is_wanted(model: nn.Module, tmp_path: Path) -> None:
    bundle = export(model, tmp_path / "out", sample=False)
    data, others = images(seed=0)[0], export(model, tmp_path / "other", sample=False)
    for name in bundle.models:
        x, _ = read_golden(Files(bundle.directory), name)
        assert not any(np.array_equal(given, drawn) for given in data.numpy() for drawn in x)
        assert np.array_equal(x, read_golden(Files(others.directory), name)[0])
    assert bundle.manifest["sample"]["noise"] and "is noise" in (bundle.directory / "README.md").read_text()
    assert lsq_export.verify(model, bundle, [data]).ok


@pytest.mark.parametrize(
    ("sample", "how", "says"),
    [
        ("cat.png", HOW, r"sample must be lsq_export\.data\.Sample"),
        (Sample("cat.png", X), HOW, r"sample must be lsq_export\.data\.Sample"),  # type: ignore[arg-type]
        (Sample(PIXELS, X), None, "sample needs preprocessing="),
        (Sample(PIXELS, X[0]), HOW, r"x has the shape \[16, 16\], the example input without its batch \[1, 16, 16\]"),
        (Sample(PIXELS, X), HOW | {"divide_by": 256.0}, "differs from its x by up to 0.01"),
        (Sample(PIXELS, X), HOW | {"gamma": 2.2}, "preprocessing has 'gamma', which run.py does not know"),
        (
            Sample(PIXELS, X),
            HOW | {"resize": 16, "interpolation": "odd"},
            "cannot be preprocessed as preprocessing says",
        ),
        (Sample(PIXELS, X + np.float32(np.nan)), HOW, "differs from its x by up to nan"),
        (Sample(PIXELS[:9], X), HOW, r"an array \[9, 16\] becomes \[1, 9, 16\]"),
        (Sample(PIXELS, X, 2), HOW, "the sample's label is 2: give the number of its class"),
        (Sample(PIXELS, X, -1), HOW, "the sample's label is -1"),
    ],
)
def test_a_sample_that_does_not_fit_is_named(sample: Any, how: Any, says: str) -> None:
    with pytest.raises(QuantizationError, match=says) as error:
        prepared_input(sample, Origin(preprocessing=how, classes=["a", "b"]), SHAPE)
    assert "\n" not in str(error.value)


def test_a_sample_is_refused_before_any_work(model: nn.Module, tmp_path: Path) -> None:
    stages: list[str] = []
    with pytest.raises(QuantizationError, match="differs from its x"):
        export(model, tmp_path / "out", preprocessing=HOW, sample=Sample(PIXELS, X * 2), on_stage=stages.append)
    assert stages == ["capture"] and not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", [(16, 16, 3), (3, 16, 16), (16, 16)])
def test_pictures_are_written_as_pictures(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Also those whose channels come first; what no picture can hold stays an array."""
    from lsq_export.bundle.sample import _write_source

    source = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    channels = 1 if len(shape) == 2 else 3
    file = _write_source(tmp_path, source, (channels, 16, 16))
    manifest = {"input": {"shape": ["batch", channels, 16, 16]}, "preprocessing": {}, "sample": {"file": file.name}}
    assert file.suffix == ".png"
    assert np.array_equal(run.read(file, manifest, prepared=False), run.preprocess(source, {}, (channels, 16, 16)))
    assert _write_source(tmp_path, source, (7, 16, 16)).suffix == ".npy"
    assert _write_source(tmp_path, source.astype(np.float32), (channels, 16, 16)).suffix == ".npy"


@pytest.mark.parametrize(("size", "channels"), [(32, 3), (24, 1), (16, 1), (6, 3)])
def test_digits_are_prepared_as_training_does_it(size: int, channels: int) -> None:
    data = load("digits", image_size=size, channels=channels)
    sample = data.sample()
    assert (
        sample is not None and sample.source.shape == (8, 8) and sample.label == data.test.fetch(torch.tensor([0]))[1]
    )
    assert torch.equal(torch.as_tensor(sample.x), data.test.fetch(torch.tensor([0]))[0][0])
    prepared_input(sample, Origin(preprocessing=data.preprocessing), data.input_shape)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(40, 30), (31, 77), (1500, 20)])
def test_images_are_prepared_as_training_does_it(size: tuple[int, int], channels: int, tmp_path: Path) -> None:
    """To the bit; large ones are made smaller before that."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(2):
            drawn = np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(drawn).save(tmp_path / name / f"{i}.png")
    data = load(f"imagefolder:{tmp_path}", image_size=14, channels=channels)
    sample = data.sample()
    assert data.classes == ("cat", "dog") and sample is not None and max(sample.source.shape) <= 1024
    found = prepared_input(sample, Origin(preprocessing=data.preprocessing), data.input_shape)
    assert np.array_equal(found[0], np.asarray(sample.x))
    if max(size) <= 1024:
        assert np.array_equal(found, data.test.fetch(torch.tensor([0]))[0].numpy())


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_arrays_are_prepared_as_training_does_it(dtype: Any, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (8, 3, 5, 5)).astype(dtype)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(8) % 2)
    data = load(f"npz:{tmp_path / 'd.npz'}")
    sample = data.sample()
    assert sample is not None and any(np.array_equal(sample.source, one) for one in x)
    found = prepared_input(sample, Origin(preprocessing=data.preprocessing), data.input_shape)
    assert np.array_equal(found, data.test.fetch(torch.tensor([0]))[0].numpy())
