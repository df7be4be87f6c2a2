"""One run of `bench`: latencies of one network, and what explains them.

record = measure(subject)
record.speedups     # {"float": 2.9, "quantize_static": 1.1, …}: how many times faster `qoperator` is; > 1 means that ours is faster
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lsq_export.version import VERSION

from .machine import processor
from .memory import peak_memory
from .operators import OperatorShare, operator_shares
from .peak import SIZES, int8_peak
from .peer import PEER
from .sources import FLOAT, Subject
from .timing import BLOCKS, BenchResult, Latency, compare, open_session, random_inputs
from .work import operations

OURS = "qoperator"


@dataclass(frozen=True)
class Record:
    """timing: latencies. operations: of the float network, see `work`. operators: {model: {operator type: share}}.
    peak_bytes: {model: bytes}, see `memory`. int8_peak: GOP/s, see `peak`.

    These four are empty or None where `measure` was told to leave out details. speedups: see `speedups_of`.
    float_origin, notes: as in Subject."""

    network: str
    timing: BenchResult
    speedups: dict[str, float]
    float_origin: str | None
    notes: tuple[str, ...]
    operators: dict[str, dict[str, OperatorShare]]
    peak_bytes: dict[str, int]
    int8_peak: float | None
    operations: int | None
    machine: str
    lsq_export: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; those of `timing` beside the others."""
        values = asdict(self)
        return {"network": values.pop("network"), **values.pop("timing"), **values, "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """The opposite of to_dict. Errors: KeyError, TypeError where values are missing or of another kind."""
        timing = BenchResult(
            tuple(Latency(**row) for row in values["rows"]),
            values["baseline"],
            values["batch"],
            values["threads"],
            values["onnxruntime"],
        )
        operators = {
            name: {op: OperatorShare(**share) for op, share in shares.items()}
            for name, shares in values["operators"].items()
        }
        plain = {
            name: values[name]
            for name in (
                "network",
                "speedups",
                "float_origin",
                "peak_bytes",
                "int8_peak",
                "operations",
                "machine",
                "lsq_export",
            )
        }
        return cls(timing=timing, operators=operators, notes=tuple(values["notes"]), **plain)


def measure(
    subject: Subject,
    *,
    batch: int = 1,
    threads: int = 2,
    runs: int = 50,
    details: bool = True,
    peak_sizes: Sequence[int] = SIZES,
    on_step: Callable[[str], None] = lambda what: None,
    **timing: Any,
) -> Record:
    """Time the models of a subject in alternating blocks, then look at each of them alone.

    details: operator shares, peak memory, int8 peak. on_step(what): called after each of the `steps` steps. timing:
    further keywords of `compare`. Errors (QuantizationError): those of `compare`; a model that cannot be profiled or
    run in a process of its own."""
    models = subject.models
    result = compare(
        models, batch=batch, threads=threads, runs=runs, on_block=lambda name: on_step(f"time {name}"), **timing
    )
    operators: dict[str, dict[str, OperatorShare]] = {}
    peaks: dict[str, int] = {}
    gops = work = None
    if details:
        for name, source in models.items():
            feed = random_inputs(name, open_session(name, source, 1), batch, 0)
            operators[name] = operator_shares(name, source, feed, threads=threads)
            on_step(f"profile {name}")
            peaks[name] = peak_memory(name, source, feed, threads=threads)
            on_step(f"memory of {name}")
        work = operations(models[FLOAT], batch) if FLOAT in models else None
        gops = int8_peak(threads, sizes=peak_sizes)
        on_step("int8 peak")
    return Record(
        subject.network,
        result,
        speedups_of(result),
        subject.float_origin,
        subject.notes,
        operators,
        peaks,
        gops,
        work,
        machine(),
        VERSION,
    )


def steps(models: int, runs: int = 50, details: bool = True) -> int:
    """How often `measure` calls on_step."""
    return models * min(BLOCKS, runs) + (2 * models + 1 if details else 0)


def speedups_of(result: BenchResult) -> dict[str, float]:
    """{other model: its median time / that of `qoperator`}, and "quantize_static":

    of the faster of its two formats. Empty without `qoperator`.
    """
    medians = {row.name: row.median_ms for row in result.rows}
    if OURS not in medians:
        return {}
    found = {FLOAT: medians[FLOAT] / medians[OURS]} if FLOAT in medians else {}
    peers = {name: median / medians[OURS] for name, median in medians.items() if name.startswith(f"{PEER} ")}
    best = {PEER: min(peers.values())} if peers else {}
    rest = {name: median / medians[OURS] for name, median in medians.items() if name not in (FLOAT, OURS, *peers)}
    return {**found, **best, **peers, **rest}


def machine() -> str:
    """The processor and how many cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor()}, {cores} cores, {platform.system()}"
