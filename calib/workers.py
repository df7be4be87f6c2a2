"""Independent jobs side by side, one core each.

    with workers() as run:
        a, b = run([lambda: f(x), lambda: g(x)])

This is for what one operator cannot spread over the cores: many passes over memory, sorts, several graphs on the same
images. Results do not depend on the number of threads, because each job computes with one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch

Run: TypeAlias = Callable[[Iterable[Callable[[], Any]]], list[Any]]


@contextmanager
def workers(*, together: bool = True) -> Iterator[Run]:
    """Give a function that calls jobs in several threads and returns their results in order.

    together: False where their data do not fit into memory beside each other: then one job is called after the other.

    There are as many threads as torch may use (OMP_NUM_THREADS, torch.set_num_threads). The first job that fails, in
    order, raises its error once the running ones have ended. The calling thread keeps its threads for its own work.
    """
    cores = torch.get_num_threads()
    if cores == 1 or not together:
        yield lambda jobs: [job() for job in jobs]
        return
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield lambda jobs: list(pool.map(lambda job: job(), jobs))
    finally:
        torch.set_num_threads(torch.get_num_threads())  # threads that start later get this number
