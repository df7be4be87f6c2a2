"""The threads of a training: by the size of its steps; in the identity of a run and in its checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lsq_export.data.dataset import Dataset
from lsq_export.qat.config import QATConfig
from lsq_export.training import checkpoint, step_threads
from lsq_export.training.job import Job, train_float, train_low_bit
from lsq_export.training.recipe import Recipe
from lsq_export.training.state import State, StateFile, kept_in
from lsq_export.training.step_threads import multiply_adds
from lsq_export.training.step_threads import step_threads as chosen
from support.small_digits import small_digits

pytestmark = pytest.mark.usefixtures("one_thread")
SHORT = Recipe(epochs=1, lr=0.01, batch_size=64)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return small_digits(128)


def test_multiply_adds_are_counted_by_hand() -> None:
    """A grouped convolution with stride, and a linear layer on what is left; the model stays as it was."""
    net = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1, groups=2), nn.Flatten(), nn.Linear(6 * 4 * 4, 5)).train()
    assert multiply_adds(net, torch.zeros(1, 4, 8, 8)) == 6 * 4 * 4 * 2 * 9 + 5 * 96
    assert net.training and not any(module._forward_hooks for module in net.modules())


def test_a_model_that_does_not_take_the_data_has_no_number() -> None:
    assert multiply_adds(nn.Conv2d(4, 6, 3), torch.zeros(1, 3, 8, 8)) is None


@pytest.mark.parametrize(("per_thread", "threads"), [(10**12, 1), (1, 4)])
def test_small_steps_have_one_thread_and_large_ones_all(
    per_thread: int, threads: int, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_threads, "usual_threads", lambda: 4)
    monkeypatch.setattr(step_threads, "PER_THREAD", per_thread)
    assert chosen(Job("tiny", "digits"), digits) == threads


def test_the_networks_of_the_project(monkeypatch: pytest.MonkeyPatch, digits: Dataset) -> None:
    """What was measured: `tiny` is slower with two threads, a ResNet-18 of twice the speed."""
    monkeypatch.setattr(step_threads, "usual_threads", lambda: 2)
    assert chosen(Job("tiny", "digits"), digits) == 1 and chosen(Job("resnet18", "digits"), digits) == 2


def test_random_numbers_stay(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_threads, "usual_threads", lambda: 2)
    before = torch.get_rng_state()
    chosen(Job("tiny", "digits"), digits)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_job_trains_with_its_threads_and_says_so(digits: Dataset, tmp_path: Path) -> None:
    config = QATConfig(weight_bits=4, activation_bits=4)
    job = Job("tiny", "digits", config, float_recipe=SHORT, recipe=SHORT, init_batches=1, threads=2)
    seen: list[int] = []

    class Watched(nn.ReLU):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return super().forward(x)

    net = nn.Sequential(nn.Conv2d(1, 4, 3), Watched(), nn.Flatten(), nn.LazyLinear(10))
    net(torch.zeros(1, *digits.input_shape))
    seen.clear()
    train_low_bit(job, digits, net, out=tmp_path / "t.safetensors")
    assert set(seen) == {2} and torch.get_num_threads() == 1
    assert checkpoint.load(tmp_path / "t.safetensors").extra["threads"] == 2
    assert train_float(job, digits).epochs and torch.get_num_threads() == 1


def test_threads_are_part_of_the_identity(digits: Dataset, tmp_path: Path) -> None:
    job = Job("tiny", "digits", threads=3)
    assert job.identity(digits)["threads"] == 3 != Job("tiny", "digits").identity(digits)["threads"]
    file = StateFile(tmp_path / "s.safetensors", job.identity(digits))
    file.write("low-bit", State({}, {"model.x": torch.zeros(1)}), {})
    assert kept_in(tmp_path / "s.safetensors", "threads") == 3
    (tmp_path / "junk").write_bytes(b"junk")
    assert kept_in(tmp_path / "junk", "threads") is None and kept_in(tmp_path / "none", "threads") is None
