"""How many threads compute, and how they wait for each other.

An operator that is shared between threads ends with the last of them. Where other processes work too, that one may have
to wait for a core; OpenMP's threads meanwhile spin for milliseconds, on cores that others need. Measured on two cores,
beside four busy processes: a training step of the network `tiny` takes 23 ms with one thread and 46 with two (9 and 6
on idle cores), and one of a ResNet-18 1,030 ms with two threads that spin and 440 with two that soon stop (100 and 130
on idle cores). The table is in docs/training.md.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

from calib.errors import QuantizationError

# Turns of a loop, about 40 ns each. 10,000 cost little on idle cores, where 1,000 make a ResNet-18 a third slower.
SPINS_IDLE, SPINS_BUSY = 10_000, 1_000
WAITING = 10.0  # percent of the last ten seconds in which some process waited for a core: the machine is busy
CGROUP, PRESSURE = Path("/sys/fs/cgroup"), Path("/proc/pressure/cpu")


def spin_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have the threads of OpenMP (libgomp) sleep soon when they wait, unless the user says how they wait.

    It only works before torch is imported: libgomp reads the variable once.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(environment):
        environment["GOMP_SPINCOUNT"] = str(SPINS_BUSY if others_wait() else SPINS_IDLE)


def others_wait() -> bool:
    """Whether processes on this machine wait for cores now; by the load average where the system tells nothing else."""
    try:
        return float(PRESSURE.read_text(encoding="ascii").split("avg10=", 1)[1].split()[0]) > WAITING
    except (OSError, ValueError, IndexError):
        return hasattr(os, "getloadavg") and os.getloadavg()[0] > available_cores()


def available_cores() -> int:
    """Cores that this process may use: those of its affinity, at most the quota of its cgroup (a container)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota())))


def _quota() -> float:
    """Seconds of CPU time a second; infinite without a limit."""
    try:
        quota, period = (CGROUP / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            files = (CGROUP / "cpu" / f"cpu.cfs_{name}_us" for name in ("quota", "period"))
            quota, period = (file.read_text(encoding="ascii").strip() for file in files)
        except OSError:
            return math.inf
    try:
        limit = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return math.inf
    return limit if limit > 0 else math.inf


def usual_threads() -> int:
    """The number of threads for work that is not small: those of torch (OMP_NUM_THREADS), at most the cores."""
    import torch

    return min(torch.get_num_threads(), available_cores())


def most_threads() -> int:
    """The largest number of threads that can be meant: with very many, OpenMP ends the process."""
    return max(64, 4 * (os.cpu_count() or 1))


@contextmanager
def using_threads(count: int | None = None) -> Iterator[int]:
    """Give torch, and the sessions of ONNX Runtime that verify, this many threads inside the block.

    count: None is `usual_threads`. The value is the count.
    Errors (QuantizationError): none, or more than `most_threads`.
    """
    import torch

    if count is not None and not 1 <= count <= most_threads():
        raise QuantizationError(f"threads is {count}: use 1 to {most_threads()}")
    before = torch.get_num_threads()
    torch.set_num_threads(usual_threads() if count is None else count)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
