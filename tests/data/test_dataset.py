"""data.dataset: batches are seeded, shared among ranks, and can go on within an epoch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from calib.errors import QuantizationError
from lsq_export.data.dataset import Dataset


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


def test_batches_after_a_step_and_shares_of_ranks(digits: Dataset) -> None:
    options: dict[str, Any] = {"shuffle": 3, "augment": True, "limit": 23}
    whole = list(digits.batches("train", 64, **options))  # 22 of 64 and one of 30
    rest = digits.batches("train", 64, skip=20, **options)
    assert len(whole) == 23 and len(rest) == len(list(rest)) == 3
    assert all(
        torch.equal(a, b) for one, other in zip(whole[20:], rest, strict=True) for a, b in zip(one, other, strict=True)
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


def test_bad_split_and_batch_size(digits: Dataset) -> None:
    with pytest.raises(QuantizationError, match="split 'valid' is unknown: use train or test"):
        digits.batches("valid")
    with pytest.raises(QuantizationError, match="batch size is 0"):
        digits.batches("train", 0)
