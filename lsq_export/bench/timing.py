"""Latency of several ONNX models against each other, in one run of ONNX Runtime.

The models take turns in blocks of runs, so that what else the machine does falls on all of them. The threads of a
session spin for a while after its last run and would take the cores from the next one (two sessions timed run by run
slowed each other down three times); so each block begins with a pause in which they go to sleep, and with runs that are
not counted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from calib.errors import QuantizationError

Source = str | os.PathLike[str] | bytes
BLOCKS = 5


@dataclass(frozen=True)
class Latency:
    """Times of one model: median and quartiles of all runs in ms, ratio of the median to the baseline's, size of the
    file (or bytes).
    """

    name: str
    median_ms: float
    low_quartile_ms: float
    high_quartile_ms: float
    ratio: float
    runs: int
    file_bytes: int


@dataclass(frozen=True)
class BenchResult:
    """Latencies in the order in which the models were given."""

    rows: tuple[Latency, ...]
    baseline: str
    batch: int
    threads: int
    onnxruntime: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def compare(
    models: Mapping[str, Source],
    *,
    batch: int = 1,
    runs: int = 50,
    threads: int = 2,
    baseline: str | None = None,
    warmup: int = 5,
    pause: float = 0.1,
    seed: int = 0,
    on_block: Callable[[str], None] = lambda name: None,
) -> BenchResult:
    """Time each model `runs` times on the same random inputs, in BLOCKS alternating blocks.

    models: name -> file or serialized model. batch: takes the place of a dynamic first dimension. baseline: name of the
    model that ratios refer to, by default the first. warmup: uncounted runs at the start of each block. pause: seconds
    of rest before each block. on_block(name): called after each block. Errors (QuantizationError): no models, unknown
    baseline, a model that cannot be loaded, run, or fed."""
    if not models:
        raise QuantizationError("there is no model to time: give ONNX files or a bundle")
    baseline = next(iter(models)) if baseline is None else baseline
    if baseline not in models:
        raise QuantizationError(f"baseline {baseline!r} is none of the models: use one of {', '.join(models)}")
    for option, value in (("batch", batch), ("runs", runs), ("threads", threads)):
        if value < 1:
            raise QuantizationError(f"{option} is {value}: use 1 or more")
    sessions = {name: open_session(name, source, threads) for name, source in models.items()}
    feeds = {name: random_inputs(name, session, batch, seed) for name, session in sessions.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for block in range(min(BLOCKS, runs)):
        count = len(range(block, runs, min(BLOCKS, runs)))  # the blocks share out the runs
        for name, session in sessions.items():
            times[name] += _block(name, session, feeds[name], count, warmup, pause)
            on_block(name)
    base = float(np.median(times[baseline]))
    rows = []
    for name, source in models.items():
        low, median, high = (float(q) for q in np.quantile(times[name], (0.25, 0.5, 0.75)))
        rows.append(Latency(name, median, low, high, median / base, len(times[name]), _size(source)))
    return BenchResult(tuple(rows), baseline, batch, threads, ort.__version__)


def random_inputs(name: str, session: ort.InferenceSession, batch: int, seed: int) -> dict[str, np.ndarray]:
    """Normal numbers for float inputs, all codes alike for 8-bit ones, in the model's shapes with `batch` for a dynamic
    first dimension.
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
    """A session with `threads` threads and everything else by default. profile: prefix of the file that ONNX Runtime's
    profiler writes.

    Errors (QuantizationError): no such file, a model that cannot be loaded.
    """
    options = ort.SessionOptions()
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what fails is raised
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise QuantizationError(f"model {name}: {os.fspath(source)} does not exist: give an ONNX file")
    try:
        return ort.InferenceSession(
            source if isinstance(source, bytes) else os.fspath(source), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise QuantizationError(
            f"model {name}: ONNX Runtime {ort.__version__} cannot load it ({_one_line(error)})"
        ) from error


def _block(
    name: str, session: ort.InferenceSession, feed: dict[str, np.ndarray], runs: int, warmup: int, pause: float
) -> list[float]:
    """Times in ms."""
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
        raise QuantizationError(
            f"model {name}: ONNX Runtime {ort.__version__} cannot run it ({_one_line(error)})"
        ) from error
    return times


def _size(source: Source) -> int:
    return len(source) if isinstance(source, bytes) else Path(source).stat().st_size


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
