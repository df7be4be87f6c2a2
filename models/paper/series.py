"""Many runs, in this process or in several, each on one thread of the processor."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from calib.errors import QuantizationError

from .plan import Run, Settings
from .record import Record, Result
from .runs import make_float, measure

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


def run_all(
    todo: Sequence[Run],
    record: Record,
    settings: Mapping[str, Settings],
    *,
    jobs: int = 1,
    show: Callable[[str], None] = lambda text: None,
) -> None:
    """Do the runs and write each into the record when it is done; float models lie in `float` beside the record.

    show: called with what was done, once for each network (float model) and each run.

    Errors: those of a run; the runs before it are recorded.
    """
    directory = float_directory(record.path)
    networks = list(dict.fromkeys(run.network for run in todo))
    for network, _ in _each(partial(_make_float, settings=settings, directory=directory), networks, jobs):
        show(f"float {network}")
    for run, result in _each(partial(_measure, settings=settings, directory=directory), todo, jobs):
        record.append(result)
        show(f"{run}: {result.trained:.1%} (float {result.float_accuracy:.1%})")


def float_directory(record: Path) -> Path:
    """Where the float models of a record lie."""
    return record.parent / "float"


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch compute on one thread inside this block.

    Sums depend on the number of threads, and so do the networks trained with them.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _make_float(network: str, settings: Mapping[str, Settings], directory: Path) -> None:
    make_float(network, settings[network], directory)


def _measure(run: Run, settings: Mapping[str, Settings], directory: Path) -> Result:
    return measure(run, settings[run.network], directory)


def _each(work: Callable[[Task], Outcome], tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, Outcome]]:
    """(task, work(task)) in the order in which they are done."""
    if jobs == 1:
        with one_thread():
            yield from ((task, work(task)) for task in tasks)
        return
    # spawn: a forked process would inherit the threads' locks of torch
    executor = ProcessPoolExecutor(
        min(jobs, max(1, len(tasks))), mp_context=multiprocessing.get_context("spawn"), initializer=_start
    )
    try:
        futures = {executor.submit(work, task): task for task in tasks}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise QuantizationError(
            "a process of the series was killed (out of memory?): use fewer --jobs and start again; what is done stays"
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _start() -> None:
    """Prepare a process of the series: it has one thread, and ends when the parent is gone."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
