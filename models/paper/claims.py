"""The paper's claims, each as a number with its uncertainty and a verdict.

Differences are paired: the same seed means the same float model, batches and calibration images. A verdict other than
"undecided" needs the whole 95 % interval on one side of zero, or p < 0.05, so that noise is not called a gain; and one
of the two networks must have learned something."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from .digits import CLASSES
from .plan import INIT_NAMES, SWISH_NETWORKS, TABLE_2
from .record import Result
from .statistics import CONFIDENCE, Estimate, f_test

HOLDS, FAILS, UNDECIDED, MISSING = "holds", "does not reproduce", "undecided", "not measured"
Cell = tuple[str, int, str, str]  # network, bits, configuration, initialization
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
    found: dict[Cell, dict[int, Result]] = {}
    for r in results:
        found.setdefault((r.network, r.bits, r.configuration, r.init), {})[r.seed] = r
    return found


def check_all(results: Sequence[Result], networks: Sequence[str]) -> tuple[Check, ...]:
    """All checks, claim by claim."""
    found = cells(results)
    return tuple(
        check
        for claim in (_four_is_not_worse, _gain_grows, _better_start, _smaller_spread, _reaches_float)
        for n in networks
        for check in claim(found, n)
    )


def paired(found: Mapping[Cell, Mapping[int, Result]], better: Cell, worse: Cell) -> dict[int, float]:
    """{seed: trained accuracy of `better` - that of `worse`}, of the seeds that both have."""
    ours, theirs = found.get(better, {}), found.get(worse, {})
    return {seed: ours[seed].trained - theirs[seed].trained for seed in sorted(ours.keys() & theirs.keys())}


def _four_is_not_worse(found: Mapping[Cell, Mapping[int, Result]], network: str) -> Iterator[Check]:
    """Table 1 of the paper:

    LSQ+ (configuration 4) against LSQ (1), and against LSQ with signed codes where inputs are signed (1s).
    """
    if network not in SWISH_NETWORKS:
        return
    for baseline in ("1", "1s"):
        for bits in (2, 3, 4):
            pair: tuple[Cell, Cell] = (network, bits, "4", "mse"), (network, bits, baseline, "lsq")
            gains = list(paired(found, *pair).values())
            yield _sign(
                f"configuration 4 ≥ {baseline} on Swish networks",
                network,
                f"W{bits}A{bits}",
                gains,
                guessing(found, pair),
            )


def _gain_grows(found: Mapping[Cell, Mapping[int, Result]], network: str) -> Iterator[Check]:
    """The gain of 4 over 1 at W2A2 minus that at W4A4."""
    if network not in SWISH_NETWORKS:
        return
    for baseline in ("1", "1s"):
        pairs: list[tuple[Cell, Cell]] = [
            ((network, bits, "4", "mse"), (network, bits, baseline, "lsq")) for bits in WIDTHS
        ]
        low, high = (paired(found, *pair) for pair in pairs)
        growth = [low[seed] - high[seed] for seed in sorted(low.keys() & high.keys())]
        blind = any(guessing(found, pair) for pair in pairs)
        yield _sign(
            f"the gain of 4 over {baseline} is larger at W2A2 than at W4A4", network, "W2A2 - W4A4", growth, blind
        )


def _better_start(found: Mapping[Cell, Mapping[int, Result]], network: str) -> Iterator[Check]:
    """Table 2 of the paper: means at W2A2."""
    configuration, bits = TABLE_2
    cell = network, bits, configuration, "mse"
    for other in ("minmax", "lsq"):
        pair: tuple[Cell, Cell] = cell, (*cell[:3], other)
        claim = f"LSQ+ initialization ends higher than {INIT_NAMES[other]}"
        yield _sign(claim, network, f"W{bits}A{bits}", list(paired(found, *pair).values()), guessing(found, pair))


def _smaller_spread(found: Mapping[Cell, Mapping[int, Result]], network: str) -> Iterator[Check]:
    """Table 2 of the paper: standard deviations at W2A2."""
    configuration, bits = TABLE_2
    cell = network, bits, configuration, "mse"
    ours = _trained(found, cell)
    for other in ("minmax", "lsq"):
        theirs = _trained(found, (*cell[:3], other))
        claim, where = f"LSQ+ initialization has a smaller spread than {INIT_NAMES[other]}", f"W{bits}A{bits}"
        if min(len(ours), len(theirs)) < 2:
            yield Check(
                claim,
                network,
                where,
                f"{len(ours)} and {len(theirs)} seeds",
                MISSING if not (ours and theirs) else UNDECIDED,
            )
            continue
        p, q = f_test(theirs, ours), f_test(ours, theirs)
        blind = guessing(found, (cell, (*cell[:3], other)))
        verdict = UNDECIDED if blind else HOLDS if p < 1 - CONFIDENCE else FAILS if q < 1 - CONFIDENCE else UNDECIDED
        stds = [Estimate(tuple(values)).std or 0.0 for values in (ours, theirs)]
        text = f"std {100 * stds[0]:.2f} against {100 * stds[1]:.2f} points, {len(ours)} and {len(theirs)} seeds, p = {p:.2g} (F test)"
        yield Check(claim, network, where, text + (NOTHING if blind else ""), verdict)


def _reaches_float(found: Mapping[Cell, Mapping[int, Result]], network: str) -> Iterator[Check]:
    """The paper's ResNet-18 at W4A4 is as good as in float."""
    if network == "resnet18":
        runs = found.get((network, 4, "4", "mse"), {})
        yield _sign(
            "W4A4 reaches floating point",
            network,
            "W4A4, configuration 4",
            [r.trained - r.float_accuracy for _, r in sorted(runs.items())],
        )


def figure(difference: Estimate, blind: bool = False) -> str:
    """The mean of a difference in points, with its 95 % interval. blind: neither side learned anything."""
    text = f"{100 * difference.mean:+.2f} points"
    if difference.half_width is None:
        return f"{text}, one seed"
    return f"{text} ± {100 * difference.half_width:.2f} (95 %, {difference.n} seeds)" + (NOTHING if blind else "")


def _trained(found: Mapping[Cell, Mapping[int, Result]], cell: Cell) -> list[float]:
    return [result.trained for _, result in sorted(found.get(cell, {}).items())]


def guessing(found: Mapping[Cell, Mapping[int, Result]], compared: Sequence[Cell]) -> bool:
    """Whether none of these cells is better than guessing (known for digits, with ten classes):

    then their differences mean nothing.
    """
    runs = [list(found.get(cell, {}).values()) for cell in compared]
    return all(
        each and each[0].settings.hard is not None and fmean(r.trained for r in each) < LEARNED / CLASSES
        for each in runs
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
