"""Whether the machine had time for what was timed, by how long the threads that are timed waited for a core."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lsq_export.threads import available_cores

WAITING, STOLEN = 0.1, 0.1  # shares of the time beyond which times say nothing
TASKS, STAT = Path("/proc/self/task"), Path("/proc/stat")


class LoadWatch:
    """Watches from when it is made.

    watch = LoadWatch()
    …                           # what is timed
    watch.busy()                # why its times say nothing, or None

    others: processes that are timed, too.
    """

    def __init__(self, others: Sequence[int] = ()) -> None:
        self._others = others
        self._times, self._stolen = _thread_times(others), _stolen()

    def busy(self) -> str | None:
        """Such as: threads waited 41 % of their time for a core (load 4.2 on 2 cores)."""
        now, stolen = _thread_times(self._others), _stolen()
        pairs = [(after, self._times.get(thread, (0, 0))) for thread, after in now.items()]
        running, waiting = (sum(after[i] - before[i] for after, before in pairs) for i in (0, 1))
        load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
        where = f"({load} on {available_cores()} cores)"
        if waiting > WAITING * (running + waiting) > 0:
            return f"threads waited {waiting / (running + waiting):.0%} of their time for a core {where}"
        total, lost = (after - before for after, before in zip(stolen, self._stolen, strict=True))
        if lost > STOLEN * total > 0:
            return f"other virtual machines took {lost / total:.0%} of the time {where}"
        if not now and hasattr(os, "getloadavg") and os.getloadavg()[0] > available_cores() + 1:
            return where[1:-1]
        return None


def _thread_times(others: Sequence[int] = ()) -> dict[str, tuple[int, int]]:
    """{thread of these processes: (ns on a core, ns of waiting for one)}; empty where the system does not tell."""
    times = {}
    try:
        for tasks in (TASKS, *(TASKS.parents[1] / str(process) / "task" for process in others)):
            for task in tasks.iterdir():
                running, waiting, _ = (task / "schedstat").read_text(encoding="ascii").split()
                times[task.name] = (int(running), int(waiting))
    except (OSError, ValueError):
        return {}
    return times


def _stolen() -> tuple[int, int]:
    """Ticks of all cores so far: (all, those that the host gave to other machines)."""
    try:
        ticks = [int(text) for text in STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
        return sum(ticks), ticks[7]
    except (OSError, ValueError, IndexError):
        return 0, 0
