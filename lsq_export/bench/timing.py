"""Latency of several ONNX models against each other, in one run of ONNX Runtime, and of OpenVINO beside it.

The models take turns in blocks of runs, so that what else the machine does falls on all of them. The threads of a
session spin for a while after its last run and would take the cores from the next one (two sessions timed run by run
slowed each other down three times). So each block begins with a pause in which they go to sleep, and with runs that
are not counted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from calib.errors import QuantizationError
from lsq_export.verification.runtime import refusal

from .load import LoadWatch
from .openvino import OpenVINO, feeds_of, is_openvino
from .ratios import Ratio, ratio_of
from .sessions import Source, open_session, random_inputs

BLOCKS = 10


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How the models are run.

    batch: takes the place of a dynamic first dimension. runs: counted ones of each model. threads: of each session.
    warmup: uncounted runs at the start of each block. pause: seconds of rest before each block. seed: of the inputs.
    Errors (QuantizationError): a batch size, a number of runs or of threads below 1.
    """

    batch: int = 1
    runs: int = 50
    threads: int = 2
    warmup: int = 5
    pause: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for option, value in (("batch", self.batch), ("runs", self.runs), ("threads", self.threads)):
            if value < 1:
                raise QuantizationError(f"{option} is {value}: use 1 or more")

    @property
    def blocks(self) -> list[int]:
        """The number of runs in each block; the blocks share out the runs."""
        count = min(BLOCKS, self.runs)
        return [len(range(block, self.runs, count)) for block in range(count)]


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Times of one model: median and quartiles of all runs in ms, and the size of the file (or of its bytes).

    images_per_second: the batch size / the median. speedup: how many times faster than the baseline the model is,
    median of the baseline / median of the model; low and high: its interval, see `ratios`. block_ms: the median of each
    block.
    """

    name: str
    median_ms: float
    low_quartile_ms: float
    high_quartile_ms: float
    images_per_second: float
    speedup: float
    runs: int
    file_bytes: int
    low: float | None = None
    high: float | None = None
    block_ms: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """Latencies in the order in which the models were given.

    openvino: its version, None where no model ran in it. busy: why the machine was too busy for ratios of these times
    to say anything; None where it was not.
    """

    rows: tuple[Latency, ...]
    baseline: str
    batch: int
    threads: int
    onnxruntime: str
    openvino: str | None = None
    busy: str | None = None

    def ratio(self, other: str, name: str) -> Ratio:
        """How many times faster the model `name` is than the model `other`."""
        rows = {row.name: row for row in self.rows}
        theirs, ours = rows[other], rows[name]
        return ratio_of(theirs.median_ms / ours.median_ms, theirs.block_ms, ours.block_ms)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def compare(
    models: Mapping[str, Source],
    options: RunOptions | None = None,
    *,
    baseline: str | None = None,
    on_block: Callable[[str], None] = lambda name: None,
) -> BenchResult:
    """Time all models on the same random inputs, in up to BLOCKS alternating blocks.

    models: name -> file or serialized model; one whose name begins with "openvino " runs there. baseline: name of the
    model that speedups refer to, by default the first. on_block(name): called after each block. Errors
    (QuantizationError): no models, an unknown baseline, a model that cannot be loaded, run, or fed.
    """
    options = options or RunOptions()
    if not models:
        raise QuantizationError("there is no model to time: give ONNX files or a bundle")
    baseline = next(iter(models)) if baseline is None else baseline
    if baseline not in models:
        raise QuantizationError(f"baseline {baseline!r} is none of the models: use one of {', '.join(models)}")
    elsewhere = {name: source for name, source in models.items() if is_openvino(name)}
    here = {name: source for name, source in models.items() if name not in elsewhere}
    sessions = {name: open_session(name, source, options.threads) for name, source in here.items()}
    feeds = {name: random_inputs(name, session, options.batch, options.seed) for name, session in sessions.items()}
    times: dict[str, list[list[float]]] = {name: [] for name in models}
    with ExitStack() as stack:
        if elsewhere:
            their_feeds = feeds_of(elsewhere, options.batch, options.seed)
            runtime = stack.enter_context(OpenVINO(elsewhere, their_feeds, options.threads))
        watch = LoadWatch([runtime.pid] if elsewhere else [])
        for runs in options.blocks:
            for name in models:
                if name in elsewhere:
                    block = runtime.block(name, runs, options.warmup, options.pause)
                else:
                    block = _block(name, sessions[name], feeds[name], runs, options.warmup, options.pause)
                times[name].append(block)
                on_block(name)
        busy = watch.busy()
    rows = (_latency(name, _size(models[name]), times[name], times[baseline], options.batch) for name in models)
    return BenchResult(
        rows=tuple(rows),
        baseline=baseline,
        batch=options.batch,
        threads=options.threads,
        onnxruntime=ort.__version__,
        openvino=runtime.version if elsewhere else None,
        busy=busy,
    )


def _latency(
    name: str, file_bytes: int, times: list[list[float]], baseline: list[list[float]], batch: int = 1
) -> Latency:
    """times: ms of the runs of each block."""
    runs = [ms for block in times for ms in block]
    low, median, high = (float(q) for q in np.quantile(runs, (0.25, 0.5, 0.75)))
    of_blocks, of_baseline = ([statistics.median(block) for block in blocks] for blocks in (times, baseline))
    ratio = ratio_of(statistics.median(ms for block in baseline for ms in block) / median, of_baseline, of_blocks)
    return Latency(
        name=name,
        median_ms=median,
        low_quartile_ms=low,
        high_quartile_ms=high,
        images_per_second=1e3 * batch / median,
        speedup=ratio.value,
        runs=len(runs),
        file_bytes=file_bytes,
        low=ratio.low,
        high=ratio.high,
        block_ms=tuple(of_blocks),
    )


def _block(
    name: str, session: ort.InferenceSession, feed: dict[str, np.ndarray], runs: int, warmup: int, pause: float
) -> list[float]:
    """The times of the counted runs in ms."""
    if pause > 0:
        time.sleep(pause)
    times = []
    try:
        for _ in range(warmup):
            session.run(None, feed)
        for _ in range(runs):
            start = time.perf_counter()
            session.run(None, feed)
            times.append((time.perf_counter() - start) * 1e3)
    except Exception as error:
        raise QuantizationError(f"model {name}: {refusal(error, 'run')}") from error
    return times


def _size(source: Source) -> int:
    return len(source) if isinstance(source, bytes) else Path(source).stat().st_size
