"""Latency of several ONNX models against each other, in one run of ONNX Runtime.

The models take turns in blocks of runs, so that what else the machine does falls on all of them. The threads of a
session spin for a while after its last run and would take the cores from the next one (two sessions timed run by run
slowed each other down three times). So each block begins with a pause in which they go to sleep, and with runs that
are not counted.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from calib.errors import QuantizationError
from lsq_export.bundle.layout import LOOKUP
from lsq_export.kernels import is_built, register
from lsq_export.verification.runtime import refusal

from .load import LoadWatch
from .ratios import Ratio, ratio_of

Source = str | os.PathLike[str] | bytes
STOCK = f"{LOOKUP}, stock"  # a file with tables in ONNX Runtime alone; LOOKUP: with our operators
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

    speedup: how many times faster than the baseline the model is, median of the baseline / median of the model; low and
    high: its interval, see `ratios`. block_ms: the median of each block.
    """

    name: str
    median_ms: float
    low_quartile_ms: float
    high_quartile_ms: float
    speedup: float
    runs: int
    file_bytes: int
    low: float | None = None
    high: float | None = None
    block_ms: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """Latencies in the order in which the models were given.

    busy: why the machine was too busy for ratios of these times to say anything; None where it was not.
    """

    rows: tuple[Latency, ...]
    baseline: str
    batch: int
    threads: int
    onnxruntime: str
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

    models: name -> file or serialized model. baseline: name of the model that speedups refer to, by default the first.
    on_block(name): called after each block. Errors (QuantizationError): no models, an unknown baseline, a model that
    cannot be loaded, run, or fed.
    """
    options = options or RunOptions()
    if not models:
        raise QuantizationError("there is no model to time: give ONNX files or a bundle")
    baseline = next(iter(models)) if baseline is None else baseline
    if baseline not in models:
        raise QuantizationError(f"baseline {baseline!r} is none of the models: use one of {', '.join(models)}")
    sessions = {name: open_session(name, source, options.threads) for name, source in models.items()}
    feeds = {name: random_inputs(name, session, options.batch, options.seed) for name, session in sessions.items()}
    times: dict[str, list[list[float]]] = {name: [] for name in models}
    watch = LoadWatch()
    for runs in options.blocks:
        for name, session in sessions.items():
            times[name].append(_block(name, session, feeds[name], runs, options.warmup, options.pause))
            on_block(name)
    return BenchResult(
        rows=tuple(_latency(name, _size(models[name]), times[name], times[baseline]) for name in models),
        baseline=baseline,
        batch=options.batch,
        threads=options.threads,
        onnxruntime=ort.__version__,
        busy=watch.busy(),
    )


def _latency(name: str, file_bytes: int, times: list[list[float]], baseline: list[list[float]]) -> Latency:
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
        speedup=ratio.value,
        runs=len(runs),
        file_bytes=file_bytes,
        low=ratio.low,
        high=ratio.high,
        block_ms=tuple(of_blocks),
    )


def random_inputs(name: str, session: ort.InferenceSession, batch: int, seed: int) -> dict[str, np.ndarray]:
    """Inputs in the model's shapes, with `batch` for a dynamic first dimension.

    Float inputs get normal numbers; 8-bit ones get all codes with the same probability. Errors (QuantizationError):
    another fixed batch size, another dynamic dimension, another type of input.
    """
    rng = np.random.default_rng(seed)
    feed = {}
    for node in session.get_inputs():
        if node.shape and node.shape[0] != batch and isinstance(node.shape[0], int):
            raise QuantizationError(
                f"model {name}: its batch size is fixed at {node.shape[0]}, not {batch}: use --batch {node.shape[0]}"
            )
        shape = [batch, *node.shape[1:]] if node.shape else []
        unknown = [str(size) for size in shape if not isinstance(size, int)]
        if unknown:
            raise QuantizationError(
                f"model {name}: input {node.name!r} has the unknown size {unknown[0]!r}: only the batch size may be "
                "dynamic"
            )
        if node.type in ("tensor(float)", "tensor(float16)", "tensor(double)"):
            kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}[node.type]
            feed[node.name] = rng.standard_normal(shape).astype(kind)
        elif node.type in ("tensor(uint8)", "tensor(int8)"):
            code_type = np.dtype(node.type[7:-1])
            limits = np.iinfo(code_type)
            feed[node.name] = rng.integers(limits.min, limits.max, shape, dtype=code_type, endpoint=True)
        else:
            raise QuantizationError(
                f"model {name}: input {node.name!r} is a {node.type}, which cannot be made up: only float and 8-bit "
                "inputs can"
            )
    return feed


def open_session(name: str, source: Source, threads: int, profile: str | None = None) -> ort.InferenceSession:
    """A session with `threads` threads and everything else by default; with our operators if its name ends in LOOKUP.

    profile: prefix of the file that ONNX Runtime's profiler writes.
    Errors (QuantizationError): no such file, a model that cannot be loaded.
    """
    options = ort.SessionOptions()
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what fails is raised
    if name.endswith(LOOKUP) and is_built():
        register(options)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise QuantizationError(f"model {name}: {os.fspath(source)} does not exist: give an ONNX file")
    try:
        return ort.InferenceSession(
            source if isinstance(source, bytes) else os.fspath(source), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise QuantizationError(f"model {name}: {refusal(error, 'load')}") from error


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
