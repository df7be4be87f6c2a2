"""bench/ratios.py: intervals hold what they say, against a count of all outcomes, and what is too wide is no number."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from lsq_export.bench.ratios import CONFIDENCE, Ratio, _left_out, ratio_of
from lsq_export.cli.bench_table import ratio_cell
from support.benches import bench_of


@pytest.mark.parametrize("count", [6, 7, 8, 9, 10, 11])
def test_the_interval_holds_the_median_as_often_as_it_says(count: int) -> None:
    """Each ratio is below the true median or above it: all 2^n ways, one as likely as the other."""
    left_out = _left_out(count)

    def coverage(left_out: int) -> float:
        below = np.array([sum(way) for way in product((0, 1), repeat=count)])
        return float(((below > left_out) & (below < count - left_out)).mean())

    assert coverage(left_out) >= CONFIDENCE > coverage(left_out + 1)


def test_pairs_take_out_what_falls_on_both() -> None:
    """The machine gets slower: each model spreads over a factor of 10, their ratio over none."""
    slower = np.geomspace(1, 10, 10)
    ratio = ratio_of(2.0, list(6 * slower), list(3 * slower))
    assert ratio.low == pytest.approx(2) and ratio.high == pytest.approx(2)
    mixed = ratio_of(2.0, list(6 * slower), list(3 * slower[::-1]))  # pairs that are none
    assert mixed.wide


def test_one_disturbed_block_does_not_widen_it() -> None:
    ours = [1.0] * 9 + [50.0]
    assert ratio_of(2.0, [2.0] * 10, ours) == Ratio(value=2.0, low=2.0, high=2.0)
    assert ratio_of(2.0, [2.0] * 5, ours[5:]).wide  # of five, none can be left out


def test_it_holds_the_value() -> None:
    assert ratio_of(3.0, [1.0, 2.0], [1.0, 1.0]) == Ratio(value=3.0, low=1.0, high=3.0)
    assert ratio_of(3.0, [], []) == Ratio(value=3.0, low=3.0, high=3.0)


@pytest.mark.parametrize(
    ("high", "says"), [(1.2, "1.00 (0.90 … 1.20)"), (1.35, "1.00 (0.90 … 1.35)"), (1.36, "? (0.90 … 1.36)")]
)
def test_a_wide_interval_has_no_value(high: float, says: str) -> None:
    assert Ratio(value=1.0, low=0.9, high=high).text == says


def test_no_ratio_where_the_machine_was_busy() -> None:
    times, drift = {"float": 2.0, "qoperator": 1.0}, [0.9, 0.9, *[1.0] * 6, 1.1, 1.1]
    assert ratio_cell(bench_of(times, drift), "qoperator") == "2.00 (1.82 … 2.22)"
    assert ratio_cell(bench_of(times, drift), "float") == "1.00"
    assert ratio_cell(bench_of(times, drift, busy="load 9"), "qoperator") == "–"
