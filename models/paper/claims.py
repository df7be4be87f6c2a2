"""The paper's claims, each as a number with its uncertainty and a verdict.

Differences are paired: the same seed means the same float model, batches and calibration images. A verdict other than
"undecided" needs the whole 95 % interval on one side of zero, or p < 0.05, so that noise is not called a gain; and one
of the two networks must have learned something.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias

from .digits import CLASSES
from .plan import INIT_NAMES, SWISH_NETWORKS, TABLE_2
from .record import Result
from .statistics import CONFIDENCE, Estimate, f_test

HOLDS, FAILS, UNDECIDED, MISSING = "holds", "does not reproduce", "undecided", "not measured"
Cell: TypeAlias = tuple[str, int, str, str]  # network, bits, configuration, initialization
Runs: TypeAlias = Mapping[Cell, Mapping[int, Result]]  # {cell: {seed: result}}
WIDTHS = (2, 4)  # at which the gain is compared
NOTHING = ", but neither learned anything there"
LEARNED = 1.5  # times the accuracy of guessing: networks whose mean is below have learned nothing


@dataclass(frozen=True)
class Check:
    """One claim on one network. figure: what was measured. verdict: HOLDS, FAILS, UNDECIDED or MISSING."""

    claim: str
    network: str
    where: str
    figure: str
    verdict: str


def cells(results: Sequence[Result]) -> dict[Cell, dict[int, Result]]:
    """{cell: {seed: result}}."""
    runs: dict[Cell, dict[int, Result]] = {}
    for r in results:
        runs.setdefault((r.network, r.bits, r.configuration, r.init), {})[r.seed] = r
    return runs


def check_all(results: Sequence[Result], networks: Sequence[str]) -> tuple[Check, ...]:
    """All checks, claim by claim."""
    runs = cells(results)
    return tuple(
        check
        for claim in (_four_is_not_worse, _gain_grows, _better_start, _smaller_spread, _reaches_float)
        for n in networks
        for check in claim(runs, n)
    )


def paired(runs: Runs, better: Cell, worse: Cell) -> dict[int, float]:
    """{seed: trained accuracy of `better` - that of `worse`}, of the seeds that both have."""
    ours, theirs = runs.get(better, {}), runs.get(worse, {})
    return {seed: ours[seed].trained - theirs[seed].trained for seed in sorted(ours.keys() & theirs.keys())}


def _four_is_not_worse(runs: Runs, network: str) -> Iterator[Check]:
    """Table 1 of the paper: LSQ+ (configuration 4) against LSQ.

    Against LSQ as it is (1), and with signed codes where inputs are signed (1s).
    """
    if network not in SWISH_NETWORKS:
        return
    for baseline in ("1", "1s"):
        for bits in (2, 3, 4):
            pair: tuple[Cell, Cell] = (network, bits, "4", "mse"), (network, bits, baseline, "lsq")
            gains = list(paired(runs, *pair).values())
            claim = f"configuration 4 ≥ {baseline} on Swish networks"
            yield _sign(claim, network, f"W{bits}A{bits}", gains, guessing(runs, pair))


def _gain_grows(runs: Runs, network: str) -> Iterator[Check]:
    """The gain of 4 over 1 at W2A2 minus that at W4A4."""
    if network not in SWISH_NETWORKS:
        return
    for baseline in ("1", "1s"):
        pairs = [((network, bits, "4", "mse"), (network, bits, baseline, "lsq")) for bits in WIDTHS]
        low, high = (paired(runs, *pair) for pair in pairs)
        growth = [low[seed] - high[seed] for seed in sorted(low.keys() & high.keys())]
        blind = any(guessing(runs, pair) for pair in pairs)
        claim = f"the gain of 4 over {baseline} is larger at W2A2 than at W4A4"
        yield _sign(claim, network, "W2A2 - W4A4", growth, blind)


def _better_start(runs: Runs, network: str) -> Iterator[Check]:
    """Table 2 of the paper: means at W2A2."""
    configuration, bits = TABLE_2
    cell = network, bits, configuration, "mse"
    for other in ("minmax", "lsq"):
        pair: tuple[Cell, Cell] = cell, (*cell[:3], other)
        claim = f"LSQ+ initialization ends higher than {INIT_NAMES[other]}"
        yield _sign(claim, network, f"W{bits}A{bits}", list(paired(runs, *pair).values()), guessing(runs, pair))


def _smaller_spread(runs: Runs, network: str) -> Iterator[Check]:
    """Table 2 of the paper: standard deviations at W2A2."""
    configuration, bits = TABLE_2
    cell = network, bits, configuration, "mse"
    ours = _trained(runs, cell)
    for other in ("minmax", "lsq"):
        theirs = _trained(runs, (*cell[:3], other))
        claim, where = f"LSQ+ initialization has a smaller spread than {INIT_NAMES[other]}", f"W{bits}A{bits}"
        seeds = f"{len(ours)} and {len(theirs)} seeds"
        if min(len(ours), len(theirs)) < 2:
            yield Check(claim, network, where, seeds, UNDECIDED if ours and theirs else MISSING)
            continue
        p, q = f_test(theirs, ours), f_test(ours, theirs)
        blind = guessing(runs, (cell, (*cell[:3], other)))
        verdict = UNDECIDED if blind else HOLDS if p < 1 - CONFIDENCE else FAILS if q < 1 - CONFIDENCE else UNDECIDED
        stds = [Estimate(tuple(values)).std or 0.0 for values in (ours, theirs)]
        text = f"std {100 * stds[0]:.2f} against {100 * stds[1]:.2f} points, {seeds}, p = {p:.2g} (F test)"
        yield Check(claim, network, where, text + (NOTHING if blind else ""), verdict)


def _reaches_float(runs: Runs, network: str) -> Iterator[Check]:
    """The paper's ResNet-18 at W4A4 is as good as in float."""
    if network == "resnet18":
        results = runs.get((network, 4, "4", "mse"), {})
        differences = [r.trained - r.float_accuracy for _, r in sorted(results.items())]
        yield _sign("W4A4 reaches floating point", network, "W4A4, configuration 4", differences)


def figure(difference: Estimate, blind: bool = False) -> str:
    """The mean of a difference in points, with its 95 % interval. blind: neither side learned anything."""
    text = f"{100 * difference.mean:+.2f} points"
    if difference.half_width is None:
        return f"{text}, one seed"
    return f"{text} ± {100 * difference.half_width:.2f} (95 %, {difference.n} seeds)" + (NOTHING if blind else "")


def _trained(runs: Runs, cell: Cell) -> list[float]:
    return [result.trained for _, result in sorted(runs.get(cell, {}).items())]


def guessing(runs: Runs, compared: Sequence[Cell]) -> bool:
    """Whether none of these cells is better than guessing, so that their differences mean nothing.

    Known for digits only, with ten classes.
    """
    results = [list(runs.get(cell, {}).values()) for cell in compared]
    return all(
        each and each[0].settings.hard is not None and fmean(r.trained for r in each) < LEARNED / CLASSES
        for each in results
    )


def _sign(claim: str, network: str, where: str, differences: Sequence[float], blind: bool = False) -> Check:
    """Whether the mean of the differences is above zero. blind: neither side learned anything."""
    if not differences:
        return Check(claim, network, where, "", MISSING)
    estimate = Estimate(tuple(differences))
    text = figure(estimate, blind)
    if estimate.half_width is None or blind:
        return Check(claim, network, where, text, UNDECIDED)
    verdict = (
        HOLDS if estimate.mean > estimate.half_width else FAILS if estimate.mean < -estimate.half_width else UNDECIDED
    )
    return Check(claim, network, where, text, verdict)
