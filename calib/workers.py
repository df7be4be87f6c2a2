"""workers: independent jobs side by side, one core each.

    with workers() as run:
        a, b = run([lambda: f(x), lambda: g(x)])

For what one operator cannot spread over the cores: many passes over memory, sorts, several graphs on the same images.
Results do not depend on the number of threads: each job computes with one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch

Run: TypeAlias = Callable[[Iterable[Callable[[], Any]]], list[Any]]


@contextmanager
def workers() -> Iterator[Run]:
    """A function that calls jobs in as many threads as torch may use (OMP_NUM_THREADS, torch.set_num_threads) and gives
    their results in order.

    The first job that fails, in order, raises its error when those that run have ended. The calling thread keeps its
    threads for what it does itself."""
    cores = torch.get_num_threads()
    if cores == 1:
        yield lambda jobs: [job() for job in jobs]
        return
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield lambda jobs: list(pool.map(lambda job: job(), jobs))
    finally:
        torch.set_num_threads(torch.get_num_threads())  # what threads that begin later get
