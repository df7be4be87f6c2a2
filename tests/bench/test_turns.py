"""The measuring protocol of `qat-speed` and `init-speed`: turns, what is counted, the same numbers each time."""

from __future__ import annotations

import pytest
import torch

from lsq_export.bench import turns
from lsq_export.bench.turns import Block, random_batches, random_network, take_turns, torch_threads, training_step


def test_blocks_take_turns_and_uncounted_calls_come_first() -> None:
    calls: list[str] = []
    first = Block(call=lambda: calls.append("a"), counted=2, uncounted=1)
    second = Block(call=lambda: calls.append("b"))
    times = take_turns([first, second], rounds=2)
    assert calls == ["a", "a", "a", "b"] * 2
    assert [[len(seconds) for seconds in rounds] for rounds in times] == [[2, 2], [1, 1]]


def test_only_the_time_of_counted_calls_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    durations = iter([5, 1, 2])

    def call() -> None:
        now[0] += next(durations)

    monkeypatch.setattr(turns.time, "perf_counter", lambda: now[0])
    assert Block(call=call, counted=2, uncounted=1).seconds() == [1, 2]


def test_threads_come_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == before


def test_networks_and_images_are_the_same_each_time() -> None:
    state = torch.get_rng_state()
    for one, other in zip(*(random_network("tiny", 5).state_dict().values() for _ in range(2)), strict=True):
        assert torch.equal(one, other)
    (images, labels), (again, same_labels) = (random_batches(2, 3, 8, 5) for _ in range(2))
    assert [x.shape for x in images] == [(3, 3, 8, 8)] * 2 and labels.shape == (3,)
    assert all(torch.equal(a, b) for a, b in zip(images, again, strict=True)) and torch.equal(labels, same_labels)
    assert not torch.equal(images[0], images[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_compiled_network_is_called_and_not_asked_for_its_length() -> None:
    net, x = torch.nn.Linear(3, 2), torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    before = net.weight.detach().clone()
    training_step(net, x, torch.zeros(4, dtype=torch.long), run=torch.compile(net, backend="eager"))()
    assert not torch.equal(net.weight, before)
