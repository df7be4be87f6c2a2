"""data.digits: normalization, the record of the preprocessing, the split."""

from __future__ import annotations

import json

import numpy as np
import torch

from lsq_export.data.dataset import Dataset
from lsq_export.data.loading import load
from lsq_export.data.splitting import stratified_split


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
