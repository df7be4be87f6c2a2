"""How fast the files are on one sample, in one process, in turns, so that what else the machine does falls on all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lsq_export.bench.load import LoadWatch
from lsq_export.bench.ratios import ratio_of

from .files import session_of, typed
from .networks.network import Arrays

ROUNDS, WARMUP, BLOCK = 12, 3, 0.2  # blocks of each file; uncounted runs and seconds of a block


@dataclass(frozen=True)
class Latency:
    """ms: medians by file. faster: how many times faster ours is than each other file: (value, low, high).

    busy: why these say little; None where the machine had time.
    """

    ms: dict[str, float]
    faster: dict[str, tuple[float, float, float]]
    busy: str | None


def latencies(files: Mapping[str, Path], sample: Arrays) -> Latency:
    """files: by way; without "ours" among them nothing is compared. sample: as each of them takes it. One thread."""
    sessions = {way: session_of(path) for way, path in files.items()}
    feeds = {way: typed(session, sample) for way, session in sessions.items()}
    blocks: dict[str, list[float]] = {way: [] for way in files}
    watch = LoadWatch()
    for _ in range(ROUNDS):
        for way, session in sessions.items():
            for _ in range(WARMUP):
                session.run(None, feeds[way])
            times, end = [], time.perf_counter() + BLOCK
            while not times or time.perf_counter() < end:
                start = time.perf_counter()
                session.run(None, feeds[way])
                times.append((time.perf_counter() - start) * 1e3)
            blocks[way].append(statistics.median(times))
    ms = {way: statistics.median(times) for way, times in blocks.items()}
    faster = {}
    for way in files if "ours" in files else ():
        ratio = ratio_of(ms[way] / ms["ours"], blocks[way], blocks["ours"])
        faster[way] = (ratio.value, ratio.low, ratio.high)
    return Latency(ms, {way: ratio for way, ratio in faster.items() if way != "ours"}, watch.busy())
