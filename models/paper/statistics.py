"""Means, intervals and tests over seeds: what is a difference, and what is noise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    values: in the order of the seeds. std: that of the sample (n - 1); None for one value.
    """

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        return statistics.stdev(self.values) if self.n > 1 else None

    @property
    def half_width(self) -> float | None:
        """Half the width of the 95 % confidence interval of the mean; None for one value.

        It is t·s/√n, with Student's t for n - 1 degrees of freedom.
        """
        if self.std is None:
            return None
        from scipy import stats

        return float(stats.t.ppf((1 + CONFIDENCE) / 2, self.n - 1)) * self.std / math.sqrt(self.n)


def f_test(first: Sequence[float], second: Sequence[float]) -> float:
    """p-value of "the variance of `first` is not larger than that of `second`", by a one-sided F test.

    It supposes normal values, two or more each.
    """
    from scipy import stats

    larger, smaller = statistics.variance(first), statistics.variance(second)
    if smaller == 0:
        return 0.0 if larger > 0 else 0.5
    return float(stats.f.sf(larger / smaller, len(first) - 1, len(second) - 1))
