"""Batches of all forms, and in one line what is wrong with one."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from calib.batches import hint, hint_of_shape, inputs, nothing_in, read_batches, refusal, varying
from calib.errors import QuantizationError

X, Y = torch.arange(24.0).reshape(2, 3, 2, 2), torch.tensor([0, 1])
DICT = {"pixel_values": X, "labels": Y}


def one(batch: Any, input_key: Any = None) -> tuple[torch.Tensor, Any]:
    (found,) = read_batches([batch], input_key)
    return found


@pytest.mark.parametrize("batch", [(X, Y), [X, Y], (X, Y, "more")])
def test_pairs(batch: Any) -> None:
    assert one(batch) == (X, Y)


@pytest.mark.parametrize("batch", [X, (X,), [X]])
def test_inputs_alone(batch: Any) -> None:
    assert one(batch) == (X, None)


@pytest.mark.parametrize("kind", [">f4", np.float64, np.longdouble])
def test_arrays_of_other_types_and_byte_orders(kind: Any) -> None:
    array = X.numpy().astype(kind)
    array.flags.writeable = False  # as those of a file in memory
    (x, _) = one(np.ma.masked_array(array))
    assert torch.equal(x.float(), X)


def test_what_is_masked_has_to_be_filled() -> None:
    masked = np.ma.masked_array(X.numpy(), mask=X.numpy() == X.numpy().max())
    with pytest.raises(QuantizationError, match=r"a masked array without 1 of [0-9,]+ values: fill them"):
        one(masked)


@pytest.mark.parametrize("batch", [X.numpy(), (X.numpy(), Y.numpy()), {"x": X.numpy()[:, ::-1], "labels": Y.numpy()}])
def test_arrays_are_tensors(batch: Any) -> None:
    """Also those whose elements lie backwards, which torch does not take."""
    x, y = one(batch, lambda given: (given["x"][:, ::-1], given["labels"]) if isinstance(given, dict) else given)
    assert torch.equal(x, X) and (y is None or torch.equal(y, Y))
    if isinstance(batch, dict):
        assert torch.equal(one(batch, "x")[0], X.flip(1))


def test_a_data_loader() -> None:
    ((x, y),) = read_batches(DataLoader(TensorDataset(X, Y), batch_size=2))
    assert torch.equal(x, X) and torch.equal(y, Y)


@pytest.mark.parametrize("batch", [DICT, UserDict(DICT)])
def test_mappings_have_their_input_under_a_key(batch: Any) -> None:
    assert one(batch, "pixel_values") == (X, Y)
    assert one({"pixel_values": X, "label": Y}, "pixel_values") == (X, Y)
    assert one({"pixel_values": X}, "pixel_values") == (X, None)


def test_a_function_takes_the_input_out_of_a_batch() -> None:
    assert one(DICT, lambda batch: batch["pixel_values"]) == (X, None)
    assert one(DICT, lambda batch: (batch["pixel_values"], batch["labels"])) == (X, Y)
    assert one([Y, X], lambda batch: batch[1]) == (X, None)


def refused(batches: Any, input_key: Any = None) -> str:
    with pytest.raises(QuantizationError) as error:
        list(varying(inputs(batches, torch.device("cpu"), input_key)))
    assert "\n" not in str(error.value)
    return str(error.value)


class Samples:
    """A data set with samples, as torch's are: no iterable."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> torch.Tensor:
        return X[index]


class OfOurs:
    def batches(self, split: str) -> list[torch.Tensor]:
        return [X]


NAN = torch.full((2, 3), torch.nan)
NO_MAPPING = "is Tensor, so it has no 'x': leave input_key='x' out"


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        (None, "batches is NoneType: give an iterable of tensors, arrays or (input, target) pairs"),
        (X, "batches is a tensor: give an iterable of batches, [tensor] for a single one"),
        (X.numpy(), "batches is a numpy array: give an iterable of batches"),
        (DICT, "batches is a dict: give an iterable of batches, [batch] for a single one"),
        ("digits", "batches is str: give an iterable"),
        (Samples(), "batches is Samples: give DataLoader(dataset, batch_size=64)"),
        (OfOurs(), 'batches is OfOurs: give data.batches("train")'),
        ([X.numpy().astype(object)], "calibration batch 0 is an array of object: give tensors, or (input"),
        ([X, 3], "calibration batch 1 is int: give tensors"),
        ([torch.tensor(1.0)], "calibration batch 0 is a single number"),
        ([DICT], "calibration batch 0 is dict with the keys pixel_values, labels: say which one is the input, "),
        ([UserDict(labels=Y, image=X)], "input_key='image'"),
        ([(255 * X).to(torch.uint8)], "calibration batch 0 is uint8 of shape [2, 3, 2, 2]: give floats, preprocessed"),
        ((X, Y), "calibration batch 1 is int64 of shape [2]: inputs are floats [N, …]; give [(images, classes)]"),
        ([X, NAN], "calibration batch 1 holds NaN or infinity in 2 of its 2 samples"),
        ([torch.tensor([[1.0, torch.inf], [1, 2]])], "holds NaN or infinity in 1 of its 2 samples"),
        ([], "no calibration batches: the iterable is empty"),
        (iter([]), "no calibration batches: the iterator is used up, it can be read once only"),
        ([X[:0], X[:0]], "the calibration data is empty: all its batches hold 0 samples"),
        ([torch.zeros(2, 3), torch.zeros(1, 3)], "the calibration data is constant: every value of its 3 samples is 0"),
        ([torch.full((2, 3), 0.5)], "every value of its 2 samples is 0.5"),
    ],
)
def test_what_is_no_batch_is_said(batches: Any, says: str) -> None:
    assert says in refused(batches)


@pytest.mark.parametrize(
    ("batch", "input_key", "says"),
    [
        (DICT, "image", "calibration batch 0 has no 'image', its keys are pixel_values, labels: change input_key"),
        (X, "x", f"calibration batch 0 {NO_MAPPING}"),
        (DICT, lambda batch: batch["image"], "input_key failed on it (KeyError: 'image'); it gets a dict"),
        (DICT, lambda batch: None, "calibration batch 0 is NoneType: give tensors"),
        (DICT, lambda batch: batch, "is dict with the keys"),
    ],
)
def test_a_wrong_input_key_is_said(batch: Any, input_key: Any, says: str) -> None:
    assert says in refused([batch], input_key)


def test_data_that_vary_pass_as_they_are() -> None:
    parts = [X[:1], X[:0], X[1:]]
    assert all(x is part for x, part in zip(varying(parts), parts, strict=True))


def test_why_there_is_nothing() -> None:
    assert "used up" in nothing_in(x for x in [X]) and nothing_in([]) == "the iterable is empty"


def test_shapes_have_hints() -> None:
    assert "channels are last" in hint_of_shape((5, 8, 9, 3), (3, 8, 9))
    assert "batch dimension is missing" in hint_of_shape((3, 8, 9), (3, 8, 9))
    assert hint_of_shape((5, 1, 8, 9), (3, 8, 9)) == "use one shape"


@pytest.mark.parametrize(
    ("model", "shape", "says"),
    [
        (nn.Conv2d(3, 4, 3), (5, 8, 8, 3), "the channels are last here: 0 takes [N, 3, H, W], x.permute(0, 3, 1, 2)"),
        (nn.Conv2d(3, 4, 3), (3, 8, 8), "the batch dimension is missing: give [N, 3, H, W], such as x[None]"),
        (nn.Conv2d(3, 4, 3), (5, 1, 8, 8), "0 takes 3 channels, this has 1"),
        (nn.Conv2d(3, 4, 3), (5, 8), "0 takes images [N, 3, H, W]"),
        (nn.Linear(10, 4), (5, 3, 2, 2), "0 takes 10 features, a sample has 12"),
        (nn.Linear(12, 4), (5, 3, 2, 2), ""),
        (nn.ReLU(), (5, 3), ""),
    ],
)
def test_what_the_first_layer_takes_is_a_hint(model: nn.Module, shape: tuple[int, ...], says: str) -> None:
    assert hint(nn.Sequential(model), torch.zeros(shape)) == says


def test_the_reason_is_one_line() -> None:
    error = RuntimeError("\n  sizes do not match  \n and more")
    line = str(refusal(nn.Sequential(nn.Linear(3, 1)), torch.zeros(2, 4), error, "batch 3: "))
    says = "batch 3: the model does not take an input of shape [4] (without the batch): sizes do not match; "
    assert line == f"{says}0 takes 3 features, a sample has 4"
    assert "KeyError" in str(refusal(nn.ReLU(), torch.zeros(2, 4), KeyError()))
