"""Several ranks of one function, as torchrun starts them, but forked from a server that has everything imported."""

from __future__ import annotations

import multiprocessing
import os
import queue
import socket
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

PROCESSES = multiprocessing.get_context("forkserver")
_MODULES = ("training.job", "cli.cmd_train", "cli.train_files", "cli.train_options", "training.curve", "models.tiny")
_LIBRARIES = ("sklearn.datasets", "matplotlib.figure", "matplotlib.backends.backend_svg", "torch._dynamo", "rich.table")
PROCESSES.set_forkserver_preload([*(f"lsq_export.{name}" for name in _MODULES), *_LIBRARIES])


def environment(rank: int, world: int, port: int) -> dict[str, str]:
    """What torchrun sets."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _rank(
    function: Callable[..., Any], rank: int, world: int, port: int, arguments: tuple[Any, ...], results: Any
) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "the model is float64")  # in which the order of sums does not matter
    os.environ.update(environment(rank, world, port))
    try:
        results.put((rank, function(*arguments)))
    except BaseException as error:
        loud = getattr(error, "first_to_fail", False)
        results.put((rank, (type(error).__name__, " ".join(str(error).split()), loud)))
    results.close()
    results.join_thread()
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run(function: Callable[..., Any], *arguments: Any, world: int = 2, limit: float = 120) -> list[Any]:
    """What function(*arguments) gives on each rank;

    for an error (its type, its message, whether it is the first one). limit: seconds.
    """
    results, port = PROCESSES.Queue(), free_port()
    ranks = [
        PROCESSES.Process(target=_rank, args=(function, rank, world, port, arguments, results)) for rank in range(world)
    ]
    for process in ranks:
        process.start()
    found, end = {}, time.monotonic() + limit
    try:
        while len(found) < world:
            rank, value = results.get(timeout=max(0.1, end - time.monotonic()))
            found[rank] = value
    except queue.Empty:
        raise AssertionError(f"only ranks {sorted(found)} came to an end: {found}") from None
    finally:
        for process in ranks:
            process.join(5)
            process.kill()
    return [found[rank] for rank in range(world)]
