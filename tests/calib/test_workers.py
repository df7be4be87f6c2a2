"""workers: results in order, one core for each job, and torch's threads as they were before."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from calib.workers import workers


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_jobs_run_side_by_side_each_with_one_thread_and_results_keep_their_order() -> None:
    together = threading.Barrier(3, timeout=60)  # is passed only by three at once

    def job(number: int) -> tuple[int, int]:
        together.wait()
        return number, torch.get_num_threads()

    with workers() as run:
        assert run([lambda n=n: job(n) for n in range(3)]) == [(0, 1), (1, 1), (2, 1)]
        assert torch.get_num_threads() == 3  # of what is not a job, a user's data and model
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_the_error_of_a_job_is_raised_and_threads_come_back() -> None:
    def fails() -> None:
        raise ValueError("seen")

    with pytest.raises(ValueError, match="seen"), workers() as run:
        run([lambda: 1, fails])
    assert torch.get_num_threads() == 3


def test_with_one_thread_nothing_else_starts() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with workers() as run:
            assert run([threading.current_thread, lambda: 5]) == [threading.main_thread(), 5]
    finally:
        torch.set_num_threads(before)
