"""Made-up latencies."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from lsq_export.bench import BenchResult
from lsq_export.bench.timing import _latency


def bench_of(medians: Mapping[str, float], drift: Sequence[float], busy: str | None = None) -> BenchResult:
    """Models with these medians, in ms, the first one as baseline. drift: of every second model, block by block."""
    assert statistics.median(drift) == 1
    blocks = {
        name: [[ms * factor] for factor in (drift if number % 2 else [1.0] * len(drift))]
        for number, (name, ms) in enumerate(medians.items())
    }
    baseline = next(iter(medians))
    rows = tuple(_latency(name, 8_000_000, times, blocks[baseline]) for name, times in blocks.items())
    return BenchResult(rows=rows, baseline=baseline, batch=1, threads=2, onnxruntime="1.32", busy=busy)
