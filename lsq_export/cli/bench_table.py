"""The tables of `lsq-export bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from calib.words import counted

from .output import print_table, say

if TYPE_CHECKING:
    from lsq_export.bench import BenchResult, Measurement
    from lsq_export.bench.journal import Summary
    from lsq_export.bench.operators import OperatorShare

COLUMNS = ("model", ">median ms", ">quartiles ms", ">images/s", ">baseline / it", ">GOP/s", ">size", ">peak memory")
BEST = {"quantize_static": "the better quantize_static", "openvino": "OpenVINO at its best"}  # of several files
OPERATORS = 12  # rows of the table of operators; the rest is one row


def print_measurement(measurement: Measurement) -> None:
    """Latencies, where the time goes, and how much faster our files are."""
    timing = measurement.timing
    rows = [
        (
            row.name,
            f"{row.median_ms:.2f}",
            f"{row.low_quartile_ms:.2f} … {row.high_quartile_ms:.2f}",
            f"{row.images_per_second:.0f}" if row.images_per_second >= 10 else f"{row.images_per_second:.1f}",
            ratio_cell(timing, row.name),
            None if measurement.operations is None else f"{measurement.operations / row.median_ms / 1e6:.0f}",
            megabytes(row.file_bytes),
            megabytes(measurement.peak_bytes.get(row.name)),
        )
        for row in timing.rows
    ]
    runs = timing.rows[0].runs
    title = (
        f"{measurement.network}: {conditions(timing.batch, timing.threads)}, median of {runs}, "
        f"ONNX Runtime {timing.onnxruntime}{f', OpenVINO {timing.openvino}' if timing.openvino else ''}; "
        f"baseline {timing.baseline}"
    )
    print_table(title, COLUMNS, rows)
    print_operators(measurement)
    if measurement.int8_peak is not None:
        say(
            f"int8 peak of this machine: {measurement.int8_peak:.0f} GOP/s (a large MatMulInteger, "
            f"{threads(timing.threads)})"
        )
    say(f"machine: {', '.join(filter(None, (measurement.machine, measurement.instruction_set)))}")
    if measurement.float_origin:
        say(f"float: {measurement.float_origin}")
    for note in measurement.notes:
        say(f"note: {note}")
    if timing.busy:
        say(f"no ratios: {too_busy(timing.busy)}")
    elif measurement.ratios:
        speeds = (f"{ratio.text} × {compared_with(other)}" for other, ratio in measurement.ratios.items())
        say(f"speed of {measurement.ours}: {', '.join(speeds)}")
    say()


def ratio_cell(bench: BenchResult, name: str) -> str:
    """How many times faster the model is than the baseline, with the interval of 95 %: 1.42 (1.31 … 1.50).

    Without a value where the interval is too wide for one; a dash where the machine was too busy, which `too_busy`
    says.
    """
    if name == bench.baseline:
        return "1.00"
    return "–" if bench.busy else bench.ratio(bench.baseline, name).text


def too_busy(reason: str) -> str:
    """What stands in place of ratios. reason: `BenchResult.busy`."""
    return f"machine too busy to tell: {reason}"


def print_operators(measurement: Measurement) -> None:
    """Share of the time and number of nodes of each operator type in the optimized graph; one column for each model."""
    if not measurement.operators:
        return
    largest: dict[str, float] = {}
    for shares in measurement.operators.values():
        for operator, cost in shares.items():
            largest[operator] = max(largest.get(operator, 0.0), cost.share)
    ordered = sorted(largest, key=lambda operator: -largest[operator])
    shown, rest = ordered[:OPERATORS], ordered[OPERATORS:]
    rows = [(name, *(cell([name], shares) for shares in measurement.operators.values())) for name in shown]
    if rest:
        rows.append((f"{len(rest)} others", *(cell(rest, shares) for shares in measurement.operators.values())))
    print_table(
        "Share of the time (nodes) of each operator type",
        ("operator", *(f">{name}" for name in measurement.operators)),
        rows,
    )


def print_summary(summaries: Sequence[Summary]) -> None:
    """How many times faster ours is, of several runs: the median of the runs, and each of them.

    Of the files of others, only the fastest have a column.
    """
    if not summaries:
        return
    found = dict.fromkeys(other for summary in summaries for other in summary.speedups)
    others = [other for other in found if not other.startswith(tuple(f"{best} " for best in BEST))]
    rows = []
    for summary in summaries:
        speeds = (spread(summary, other) if other in summary.speedups else None for other in others)
        rows.append((f"{summary.network}, {conditions(summary.batch, summary.threads)}", summary.runs, *speeds))
    title = (
        "Speed of ours (lookup, else qoperator) against the others: ratio of medians, the median of the runs (each run)"
    )
    print_table(title, ("network", ">runs", *(f">{compared_with(other)}" for other in others)), rows)


def spread(summary: Summary, other: str) -> str:
    """The median and the runs, such as: 2.91 (2.85, 2.91, 3.02)."""
    return f"{summary.median(other):.2f} ({', '.join(f'{value:.2f}' for value in summary.speedups[other])})"


def compared_with(other: str) -> str:
    """The name of what ours is compared with."""
    return BEST.get(other, other)


def cell(names: Sequence[str], shares: Mapping[str, OperatorShare]) -> str | None:
    """Share and nodes of these operator types together, such as: 41.2% (20). None where a model has none of them."""
    costs = [shares[name] for name in names if name in shares]
    return f"{sum(cost.share for cost in costs):.1%} ({sum(cost.nodes for cost in costs)})" if costs else None


def conditions(batch: int, count: int) -> str:
    """Such as: batch 8, 2 threads."""
    return f"batch {batch}, {threads(count)}"


def threads(count: int) -> str:
    """Such as: 1 thread, 2 threads."""
    return counted(count, "thread")


def megabytes(count: int | None) -> str | None:
    """Such as: 12.34 MB."""
    return None if count is None else f"{count / 1e6:.2f} MB"
