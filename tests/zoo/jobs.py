"""Runs of the zoo in several processes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from support.exporter import operator_tables_made_once

from .registry import NETWORKS
from .run import Result, run


def load(modules: Sequence[str]) -> None:
    """Import modules that add networks."""
    for module in modules:
        importlib.import_module(module)


def one(name: str, bits: int, modules: Sequence[str]) -> Result:
    """One run, in any process."""
    load(modules)
    with operator_tables_made_once():
        return run(NETWORKS[name], bits)


def runs(todo: Sequence[tuple[str, int]], jobs: int, modules: Sequence[str]) -> Iterator[Result]:
    """The results of (network, bits), as they come."""
    if jobs < 2:
        yield from (one(name, bits, modules) for name, bits in todo)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(one, name, bits, modules) for name, bits in todo]
        yield from (future.result() for future in as_completed(futures))
