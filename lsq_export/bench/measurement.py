"""One measurement of `bench`: latencies of one network, and what explains them.

    measurement = measure(subject)
    measurement.speedups      # {"float": 2.9, "quantize_static": 1.1, …}: how many times faster measurement.ours is

Times compare within one measurement: it is one run on one machine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lsq_export.bundle.layout import LOOKUP
from lsq_export.version import VERSION

from .machine import instruction_set, this_machine
from .memory import peak_memory
from .openvino import OPENVINO, is_openvino
from .operators import OperatorShare, operator_shares
from .peak import SIZES, int8_peak
from .peer import PEER
from .ratios import Ratio
from .sessions import Source, open_session, random_inputs
from .sources import FLOAT, Subject
from .timing import BenchResult, Latency, RunOptions, compare
from .work import operations

OURS = (LOOKUP, "qoperator")  # the fastest file of ours is compared: the first that is there
LATENCY_FIELDS = ("name", "median_ms", "low_quartile_ms", "high_quartile_ms", "runs", "file_bytes")
TIMING_FIELDS = ("baseline", "batch", "threads", "onnxruntime")
LATER_FIELDS = ("openvino", "busy")  # of the timing, which records of older versions lack
Interval = tuple[float, float]
PLAIN_FIELDS = (
    *("network", "speedups", "float_origin", "peak_bytes", "int8_peak"),
    *("operations", "machine", "lsq_export"),
)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Latencies of the models of one network, and what explains them.

    timing       the latencies
    speedups     see `speedups_of`
    intervals    {other model: (low, high) of that speedup}, see `ratios`; empty in records of older versions
    operators    {model: {operator type: its share of the time}}, see `operators`
    peak_bytes   {model: bytes}, see `memory`
    int8_peak    of the machine, GOP/s, see `peak`
    operations   of the float network, see `work`

    Of these, the last four are empty or None where `measure` was told to leave out details; models that run in OpenVINO
    have neither operators nor peak_bytes. float_origin, notes: as in Subject. machine, lsq_export: where it was
    measured, and the version; instruction_set: see `machine`, None in records of older versions.
    """

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
    intervals: dict[str, Interval] = field(default_factory=dict)
    instruction_set: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; those of `timing` beside the others."""
        values = asdict(self)
        return {"network": values.pop("network"), **values.pop("timing"), **values, "notes": list(self.notes)}

    @property
    def ours(self) -> str | None:
        """Which model the speedups are of."""
        return ours_of(_medians(self.timing))

    @property
    def ratios(self) -> dict[str, Ratio]:
        """{other model: how many times faster ours is}; empty where the machine was too busy to tell."""
        if self.timing.busy:
            return {}
        known = {other: self.intervals.get(other, (value, value)) for other, value in self.speedups.items()}
        return {other: Ratio(value=self.speedups[other], low=low, high=high) for other, (low, high) in known.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Measurement:
        """The opposite of to_dict. Errors: KeyError, TypeError where values are missing or of another kind."""
        medians = {row["name"]: row["median_ms"] for row in values["rows"]}
        rows = []
        for row in values["rows"]:
            stored = {name: row[name] for name in LATENCY_FIELDS} | {name: row.get(name) for name in ("low", "high")}
            stored |= {"speedup": medians[values["baseline"]] / row["median_ms"], "block_ms": row.get("block_ms", ())}
            stored |= {"images_per_second": 1e3 * values["batch"] / row["median_ms"]}
            rows.append(Latency(**{**stored, "block_ms": tuple(stored["block_ms"])}))
        stored = {name: values[name] for name in TIMING_FIELDS} | {name: values.get(name) for name in LATER_FIELDS}
        timing = BenchResult(rows=tuple(rows), **stored)
        operators = {
            name: {op: OperatorShare(**share) for op, share in shares.items()}
            for name, shares in values["operators"].items()
        }
        plain = {name: values[name] for name in PLAIN_FIELDS}
        plain |= {"intervals": {name: (low, high) for name, (low, high) in values.get("intervals", {}).items()}}
        plain |= {"instruction_set": values.get("instruction_set")}
        return cls(timing=timing, operators=operators, notes=tuple(values["notes"]), **plain)


def measure(
    subject: Subject,
    options: RunOptions | None = None,
    *,
    baseline: str | None = None,
    details: bool = True,
    peak_sizes: Sequence[int] = SIZES,
    on_step: Callable[[str], None] = lambda what: None,
) -> Measurement:
    """Time the models of a subject in alternating blocks, then look at each of them alone.

    baseline: as in `compare`. details: operator shares, peak memory, int8 peak. on_step(what): called after each of the
    `steps` steps. Errors (QuantizationError): those of `compare`; a model that cannot be profiled or run in a process
    of its own.
    """
    options = options or RunOptions()
    models, threads = subject.models, options.threads
    timing = compare(models, options, baseline=baseline, on_block=lambda name: on_step(f"time {name}"))
    operators: dict[str, dict[str, OperatorShare]] = {}
    peaks: dict[str, int] = {}
    peak = work = None
    if details:
        for name, source in _detailed(models).items():
            feed = random_inputs(name, open_session(name, source, 1), options.batch, 0)
            operators[name] = operator_shares(name, source, feed, threads=threads)
            on_step(f"profile {name}")
            peaks[name] = peak_memory(name, source, feed, threads=threads)
            on_step(f"memory of {name}")
        work = operations(models[FLOAT], options.batch) if FLOAT in models else None
        peak = int8_peak(threads, sizes=peak_sizes)
        on_step("int8 peak")
    return Measurement(
        network=subject.network,
        timing=timing,
        speedups=speedups_of(timing),
        intervals=intervals_of(timing),
        float_origin=subject.float_origin,
        notes=subject.notes,
        operators=operators,
        peak_bytes=peaks,
        int8_peak=peak,
        operations=work,
        machine=this_machine(),
        instruction_set=instruction_set(),
        lsq_export=VERSION,
    )


def steps(models: Mapping[str, Source], options: RunOptions, details: bool = True) -> int:
    """How often `measure` calls on_step."""
    return len(models) * len(options.blocks) + (2 * len(_detailed(models)) + 1 if details else 0)


def _detailed(models: Mapping[str, Source]) -> dict[str, Source]:
    """Those that run in ONNX Runtime, which tells what its operators cost."""
    return {name: source for name, source in models.items() if not is_openvino(name)}


def speedups_of(result: BenchResult) -> dict[str, float]:
    """{other model: how many times faster ours is}: the other's median time / that of ours.

    "quantize_static" is the faster one of its two formats, "openvino" the fastest of its rows. Empty without a file of
    integers of ours.
    """
    medians = _medians(result)
    ours = ours_of(medians)
    return {name: medians[other] / medians[ours] for name, other in _compared(medians).items()} if ours else {}


def intervals_of(result: BenchResult) -> dict[str, Interval]:
    """{other model: (low, high) of how many times faster ours is}, with the keys of `speedups_of`."""
    medians = _medians(result)
    ours = ours_of(medians)
    ratios = {name: result.ratio(other, ours) for name, other in _compared(medians).items()} if ours else {}
    return {name: (ratio.low, ratio.high) for name, ratio in ratios.items()}


def ours_of(names: Collection[str]) -> str | None:
    """The file of ours that is compared with the others; None where there is none."""
    return next((name for name in OURS if name in names), None)


def _medians(result: BenchResult) -> dict[str, float]:
    return {row.name: row.median_ms for row in result.rows}


def _compared(medians: Mapping[str, float]) -> dict[str, str]:
    """{what ours is compared with: the model that this is}."""
    ours = ours_of(medians)
    floats = [FLOAT] if FLOAT in medians else []
    peers = [name for name in medians if name.startswith((f"{PEER} ", f"{OPENVINO} "))]
    best: dict[str, str] = {}
    for whose in (PEER, OPENVINO):
        theirs = [name for name in peers if name.startswith(f"{whose} ")]
        best |= {whose: min(theirs, key=lambda name: medians[name])} if theirs else {}
    rest = [name for name in medians if name not in (FLOAT, ours, *peers)]
    return {**dict(zip(floats, floats, strict=True)), **best, **{name: name for name in (*peers, *rest)}}
