"""Calibration data on their way into the fold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from calib.errors import QuantizationError
from lsq_export.data.calibration import Calibration

X = torch.arange(24.0, dtype=torch.float64).reshape(6, 4)


def test_inputs_are_float32_and_the_first_are_kept() -> None:
    data = Calibration([X[:2], (X[2:], "classes")], (4,), keep=3)
    data.begin()
    read = list(data)
    assert [x.dtype for x in read] == [torch.float32] * 2 and torch.equal(torch.cat(read), X.float())
    assert torch.equal(data.images, X[:3].float())


def test_batches_of_another_form() -> None:
    (x,) = Calibration([{"image": X}], (4,), 1, "image")
    assert torch.equal(x, X.float())


def test_the_first_batch_is_looked_at_before_the_others_are_made() -> None:
    made = []

    def batches() -> Iterator[torch.Tensor]:
        for part in (X[:, :3], X):
            made.append(part)
            yield part

    with pytest.raises(QuantizationError, match=r"batch 0 has inputs of shape \[3\], the example input has \[4\]"):
        Calibration(batches(), (4,), 1).begin()
    assert len(made) == 1


def test_data_that_do_not_vary_are_refused_at_the_end() -> None:
    data = Calibration([torch.ones(2, 4)], (4,), 1)
    data.begin()
    with pytest.raises(QuantizationError, match="is constant"):
        list(data)
