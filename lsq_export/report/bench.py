"""The HTML record of `bench`: one self-contained page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .page import page

if TYPE_CHECKING:
    from lsq_export.bench import Measurement

SHOWN = 0.01  # share of the time from which on an operator type has a row of its own


def render_bench(records: Sequence[Measurement]) -> str:
    """HTML of one or more records.

    Medians of several runs first, then each run with its latencies and the share of each operator type.
    """
    from lsq_export.bench.journal import summarize

    summaries = [summary for summary in summarize(records) if summary.runs > 1 and summary.speedups]
    filters: dict[str, Callable[..., str]] = {
        "megabytes": lambda count: "–" if count is None else f"{count / 1e6:.2f} MB",
        "percent": lambda share: f"{100 * share:.1f} %",
    }
    operators = [_operators(record) for record in records]
    return page("bench.html", filters, records=records, summaries=summaries, operators=operators)


def _operators(record: Measurement) -> list[str]:
    """Operator types that take some time in some model, the largest share first."""
    largest: dict[str, float] = {}
    for shares in record.operators.values():
        for operator, found in shares.items():
            largest[operator] = max(largest.get(operator, 0.0), found.share)
    return [
        operator for operator in sorted(largest, key=lambda operator: -largest[operator]) if largest[operator] >= SHOWN
    ]
