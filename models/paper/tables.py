"""The three tables as rows of numbers, with the cells that were not measured: for Markdown, JSON and plots alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .claims import Cell, Runs, cells, figure, guessing, paired
from .plan import BITS, INITS, NETWORKS, TABLE_2, TABLE_3, TABLE_3_INITS, rows
from .record import Result
from .statistics import Estimate

MISSING = "–"


@dataclass(frozen=True)
class Entry:
    """A cell of a table, over seeds.

    float_difference: trained - float. diverged: how many runs stopped early. Estimates are None without a run.
    """

    network: str
    bits: int
    configuration: str
    init: str
    trained: Estimate | None
    float_difference: Estimate | None
    initialized: Estimate | None
    diverged: int

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON; accuracies in 0-1."""
        values: dict[str, object] = {
            "network": self.network,
            "bits": self.bits,
            "configuration": self.configuration,
            "init": self.init,
        }
        if self.trained is None or self.float_difference is None:
            return {**values, "runs": 0}
        summary = {
            "runs": self.trained.n,
            "mean": self.trained.mean,
            "std": self.trained.std,
            "float_difference": self.float_difference.mean,
        }
        return {**values, **summary, "diverged": self.diverged, "values": list(self.trained.values)}


@dataclass(frozen=True)
class Comparison:
    """A configuration from LSQ's initialization and from LSQ+'s.

    difference: trained accuracy from LSQ+'s - that from LSQ's, of the seeds that both have; None: there is none.
    guessing: neither learned anything.
    """

    lsq: Entry
    mse: Entry
    difference: Estimate | None
    guessing: bool

    @property
    def figure(self) -> str:
        """The difference in points with its 95 % interval."""
        return MISSING if self.difference is None else figure(self.difference, self.guessing)

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON; accuracies in 0-1. difference: LSQ+ - LSQ."""
        values = {"lsq": self.lsq.to_dict(), "mse": self.mse.to_dict(), "guessing": self.guessing}
        if self.difference is None:
            return {**values, "difference": None}
        d = self.difference
        return {**values, "difference": {"mean": d.mean, "half_width": d.half_width, "values": list(d.values)}}


def networks_of(results: Sequence[Result]) -> tuple[str, ...]:
    """The networks of the paper (measured or not), then others in the record."""
    return tuple(dict.fromkeys([*NETWORKS, *(r.network for r in results)]))


def table_1(results: Sequence[Result], network: str) -> list[list[Entry]]:
    """One row a configuration, one column a width."""
    runs = cells(results)
    return [[_entry(runs, (network, bits, c.name, c.init)) for bits in BITS] for c in rows(network)]


def table_2(results: Sequence[Result], network: str) -> list[Entry]:
    """One row an initialization."""
    runs, (configuration, bits) = cells(results), TABLE_2
    return [_entry(runs, (network, bits, configuration, init)) for init in INITS]


def table_3(results: Sequence[Result], network: str) -> list[Comparison]:
    """One row a configuration."""
    runs, (names, bits) = cells(results), TABLE_3
    return [_comparison(runs, network, bits, name) for name in names]


def _comparison(runs: Runs, network: str, bits: int, name: str) -> Comparison:
    lsq, mse = ((network, bits, name, init) for init in TABLE_3_INITS)
    differences = tuple(paired(runs, mse, lsq).values())
    difference = Estimate(differences) if differences else None
    return Comparison(_entry(runs, lsq), _entry(runs, mse), difference, guessing(runs, (lsq, mse)))


def _entry(runs: Runs, cell: Cell) -> Entry:
    results = [result for _, result in sorted(runs.get(cell, {}).items())]
    if not results:
        return Entry(*cell, None, None, None, 0)
    trained = Estimate(tuple(r.trained for r in results))
    difference = Estimate(tuple(r.trained - r.float_accuracy for r in results))
    initialized = Estimate(tuple(r.initialized for r in results))
    return Entry(*cell, trained, difference, initialized, sum(r.diverged is not None for r in results))


def percent(estimate: Estimate | None, seeds: bool = True) -> str:
    """Mean ± standard deviation in percent, and of how many runs."""
    if estimate is None:
        return MISSING
    spread = "" if estimate.std is None else f" ± {100 * estimate.std:.1f}"
    return f"{100 * estimate.mean:.1f}{spread}" + (f" [{estimate.n}]" if seeds else "")


def points(estimate: Estimate | None) -> str:
    """A difference, in points."""
    return MISSING if estimate is None else f"{100 * estimate.mean:+.1f}"
