"""Samples that are kept: the same ones for any order and any batches."""

from __future__ import annotations

import torch
from torch import nn

from calib.samples import Samples
from lsq_export.reconstruction.kept_samples import KeptSamples
from lsq_export.reconstruction.sample_batches import kept_batches, steps_of


def _kept(x: torch.Tensor, limit: int) -> KeptSamples:
    kept = KeptSamples(limit)
    for sample in x.split(1):
        kept.look(sample)
    return kept


def test_any_order_keeps_the_same_and_equal_ones_once() -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    turned = torch.cat([x.flip(0), x[:20]])
    one, other = (torch.cat(_kept(data, 16).batches(4)) for data in (x, turned))
    assert torch.equal(one, other) and len(one) == 16
    assert all((x == sample).all(1).any() for sample in one)
    everything = torch.cat(_kept(turned, 100).batches(10))
    assert torch.equal(everything.sort(0).values, x.sort(0).values)


def test_batches_are_full() -> None:
    kept = _kept(torch.arange(10.0)[:, None], 100)
    assert [len(batch) for batch in kept.batches(4)] == [4, 4]
    assert [len(batch) for batch in kept.batches(16)] == [10]
    assert KeptSamples(3).batches(4) == []


def test_several_inputs_and_none_of_the_batch_is_held() -> None:
    x = torch.randn(1000, 3)
    kept = KeptSamples(1)
    for part in Samples({"a": x, "b": torch.arange(1000)}):
        kept.look(part)
    (batch,) = kept.batches(1)
    index = int(batch.by_name["b"])
    assert torch.equal(batch.by_name["a"], x[index : index + 1])
    assert batch.by_name["a"].untyped_storage().nbytes() == 12


def test_a_network_that_flattens_the_batch_gets_one_sample_at_a_time() -> None:
    """It takes any batch, and makes nonsense of it."""

    class Adds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(12, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x) + x.sum()  # type: ignore[no-any-return]

    class Refuses(Adds):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.reshape(1, 12))  # type: ignore[no-any-return]

    x = torch.randn(40, 12, generator=torch.Generator().manual_seed(0)).split(1)
    assert [len(batch) for batch in kept_batches(x, nn.Sequential(nn.Linear(12, 2)))] == [4] * 10
    heavy = nn.Sequential(nn.Linear(12, 1200))  # many weights for an input of 12 numbers
    assert [len(batch) for batch in kept_batches(x, heavy)] == [5] * 8
    many = torch.randn(300, 12, generator=torch.Generator().manual_seed(1)).split(1)
    assert [len(batch) for batch in kept_batches(many, heavy)] == [32] * 8
    assert [len(batch) for batch in kept_batches(x, nn.Linear(12, 2), one=True)] == [1] * 40
    for network in (Adds(), Refuses()):
        assert [len(batch) for batch in kept_batches(x, network)] == [1] * 40
    assert kept_batches([], nn.Linear(12, 2)) == []


def test_small_batches_get_more_steps() -> None:
    assert [steps_of(size) for size in (1, 2, 4, 5, 16, 32)] == [256, 256, 128, 51, 16, 8]
