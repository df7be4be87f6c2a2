"""The tables of `bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from .output import print_table

if TYPE_CHECKING:
    from lsq_export.bench import Record
    from lsq_export.bench.journal import Summary
    from lsq_export.bench.operators import OperatorShare

COLUMNS = ("model", ">median ms", ">quartiles ms", ">baseline / it", ">GOP/s", ">size", ">peak memory")
OPERATORS = 12  # rows of the table of operators; the rest is one row


def print_record(record: Record) -> None:
    """Latencies, where the time goes, and what ours gains."""
    timing = record.timing
    rows = [
        (
            row.name,
            f"{row.median_ms:.2f}",
            f"{row.low_quartile_ms:.2f} … {row.high_quartile_ms:.2f}",
            f"{1 / row.ratio:.2f}",
            None if record.operations is None else f"{record.operations / row.median_ms / 1e6:.0f}",
            megabytes(row.file_bytes),
            megabytes(record.peak_bytes.get(row.name)),
        )
        for row in timing.rows
    ]
    runs = timing.rows[0].runs
    title = (
        f"{record.network}: batch {timing.batch}, {threads(timing.threads)}, median of {runs}, "
        f"ONNX Runtime {timing.onnxruntime}; baseline {timing.baseline}"
    )
    print_table(title, COLUMNS, rows)
    print_operators(record)
    if record.int8_peak is not None:
        click.echo(
            f"int8 peak of this machine: {record.int8_peak:.0f} GOP/s (a large MatMulInteger, "
            f"{threads(timing.threads)}); {record.machine}"
        )
    if record.float_origin:
        click.echo(f"float: {record.float_origin}")
    for note in record.notes:
        click.echo(f"note: {note}")
    if record.speedups:
        click.echo(
            "speed of qoperator: "
            f"{', '.join(f'{value:.2f} × {said(other)}' for other, value in record.speedups.items())}"
        )
    click.echo()


def print_operators(record: Record) -> None:
    """Share of the time and number of nodes of each operator type in the optimized graph, a column a model."""
    if not record.operators:
        return
    largest: dict[str, float] = {}
    for shares in record.operators.values():
        for operator, found in shares.items():
            largest[operator] = max(largest.get(operator, 0.0), found.share)
    ordered = sorted(largest, key=lambda operator: -largest[operator])
    shown, rest = ordered[:OPERATORS], ordered[OPERATORS:]
    rows = [(name, *(cell([name], shares) for shares in record.operators.values())) for name in shown]
    if rest:
        rows.append((f"{len(rest)} others", *(cell(rest, shares) for shares in record.operators.values())))
    print_table(
        "Share of the time (nodes) of each operator type",
        ("operator", *(f">{name}" for name in record.operators)),
        rows,
    )


def print_summary(summaries: Sequence[Summary]) -> None:
    """Of several runs: the ratio of medians, the median of the runs, and each of them."""
    others = list(dict.fromkeys(other for summary in summaries for other in summary.speedups))
    rows = [
        (
            summary.network,
            summary.runs,
            *(spread(summary, other) if other in summary.speedups else None for other in others),
        )
        for summary in summaries
    ]
    title = "Speed of qoperator against the others: ratio of medians, the median of the runs (each run)"
    print_table(title, ("network", ">runs", *(f">{said(other)}" for other in others)), rows)


def spread(summary: Summary, other: str) -> str:
    """2.91 (2.85, 2.91, 3.02)."""
    return f"{summary.median(other):.2f} ({', '.join(f'{value:.2f}' for value in summary.speedups[other])})"


def said(other: str) -> str:
    """The name of what qoperator is compared with."""
    return "the better quantize_static" if other == "quantize_static" else other


def cell(names: Sequence[str], shares: Mapping[str, OperatorShare]) -> str | None:
    """41.2% (20), of these operator types together; None where a model has none of them."""
    found = [shares[name] for name in names if name in shares]
    return f"{sum(f.share for f in found):.1%} ({sum(f.nodes for f in found)})" if found else None


def threads(count: int) -> str:
    """1 thread, 2 threads."""
    return f"{count} thread{'s' if count > 1 else ''}"


def megabytes(count: int | None) -> str | None:
    """12.34 MB."""
    return None if count is None else f"{count / 1e6:.2f} MB"
