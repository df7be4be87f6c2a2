"""What would bring a fold nearer to the trained model, where it is far from what float noise alone does.

The yardstick (`yardstick.py`) is the trained model against itself on inputs × 1.0001. What helps is read from what was
measured: the costs of the other folds in the manifest, and the reasons for which codes differ, layer by layer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from calib.words import counted
from lsq_export.qat.origins import CALIBRATED, is_trained, origin_of

from .answers import answers_otherwise
from .far import FAR, LIMIT, behind_db, is_small
from .numbers import decibel
from .reasons import Reason

NEAR = 1.0  # dB: a gap that other images would change as well
MATTERS = 0.02  # share of what differs from which on a reason is worth a remedy
TRAINED_EDGES, CONTAINER, INTEGER = "--edges trained", "--offset container", "--offset integer"
UNTRAINED_EDGES = "the 8-bit grids between layers come from the calibration images: give such as will be used"
AGAINST_FLOAT = ", and judge by the float network (calibrate says: against float)"


def behind(parity: Mapping[str, Any]) -> float:
    """dB by which the folded model is further from the trained one than the yardstick; 0 if it is nearer.

    Also where the yardstick is unknown, or no noise at all: then it flipped no code of these images, by chance.
    parity: as parity.json has it, where null is no noise at all.
    """
    folded, noise = parity["folded_sqnr_db"], parity.get("nudged_sqnr_db")
    return 0.0 if folded is None or noise is None else behind_db(float(folded), float(noise))


def as_good_as_exact(parity: Mapping[str, Any]) -> bool:
    """Whether the fold costs no more than the yardstick. False where the yardstick tells nothing."""
    noise = parity.get("nudged_sqnr_db")
    return parity["folded_sqnr_db"] is None or (noise is not None and noise <= LIMIT and behind(parity) < NEAR)


def could_be_nearer(parity: Mapping[str, Any]) -> bool:
    """Whether the fold is far from the yardstick and its error not small, or answers are others and the yardstick does
    not account for it.
    """
    if not parity["ok"]:
        return False
    far = behind(parity) > FAR and not is_small(float(parity["folded_sqnr_db"]))
    return far or (answers_otherwise(parity) and not as_good_as_exact(parity))


def nearer(manifest: Mapping[str, Any], parity: Mapping[str, Any]) -> str | None:
    """One line, or None where `could_be_nearer` says no."""
    if not could_be_nearer(parity):
        return None
    shares = _worst_first(reason_shares(parity), parity)
    by_training = _by_training(manifest, shares) if is_trained(manifest.get("source")) else None
    return _by_fold(manifest) or by_training or _by_export(manifest, shares)


def reason_shares(parity: Mapping[str, Any]) -> dict[str, float]:
    """{reason: its share of the codes that differ}, every tensor with the weight of the share that differs in it."""
    weights: Counter[str] = Counter()
    for layer in parity["trained_layers"]:
        for reason, count in layer["reasons"].items():
            weights[str(reason)] += count / max(1, layer["elements"])
    total = sum(weights.values())
    return {reason: weight / total for reason, weight in weights.most_common()} if total else {}


def _worst_first(shares: Mapping[str, float], parity: Mapping[str, Any]) -> dict[str, float]:
    """The reason of most codes of the worst layer before all others, so that the advice is for what is shown."""
    layers: list[Mapping[str, Any]] = sorted(parity["trained_layers"], key=lambda layer: layer["differing"])
    worst: Mapping[str, int] = layers[-1]["reasons"] if layers else {}
    first = max(worst, key=lambda reason: worst[reason], default=None)
    return dict(sorted(shares.items(), key=lambda entry: entry[0] != first))


def _by_training(manifest: Mapping[str, Any], shares: Mapping[str, float]) -> str | None:
    """Options that are not used yet, for the reasons that matter."""
    # The integer fold takes zero points among the few codes, which only offset="integer" trains.
    config, low = _config(manifest), manifest.get("fold") == "integer"
    offset = (("real", "container", None), INTEGER) if low else (("real", None), CONTAINER)
    remedies: dict[str, tuple[str, tuple[str | None, ...], str, str]] = {
        Reason.EDGE.value: ("edges", ("calibrated", None), TRAINED_EDGES, "untrained 8-bit grids"),
        Reason.GRID.value: ("offset", *offset, "moved grids"),
        Reason.BORDER.value: ("offset", *offset, "borders"),
    }
    options, why = [], []
    for reason, part in shares.items():
        setting, unused, option, what = remedies.get(reason, ("", (), "", ""))
        if part >= MATTERS and config.get(setting) in unused:
            options.append(option)
            why.append(f"{what} {part:.0%}")
    return f"train with {' '.join(dict.fromkeys(options))} ({', '.join(why)})" if options else None


def _by_fold(manifest: Mapping[str, Any]) -> str | None:
    """Another fold of the target that was measured to be nearer."""
    costs = {c["fold"]: c for c in manifest.get("folds") or () if "refused" not in c}
    chosen = costs.get(manifest.get("fold"))
    if chosen is None:
        return None
    best = max(costs.values(), key=_sqnr)
    if _sqnr(best) - _sqnr(chosen) <= FAR:
        return None
    measured = f"{decibel(best['sqnr_db'])} instead of {decibel(chosen['sqnr_db'])}"
    return f"export with --fold {best['fold']} ({measured} on {counted(best['images'], 'calibration image')})"


def _by_export(manifest: Mapping[str, Any], shares: Mapping[str, float]) -> str:
    """Where neither another training nor another fold is known to help."""
    source = manifest.get("source")
    origin, trained = origin_of(source), is_trained(source)
    if not shares and any(t["kind"] == "edge" for t in manifest["tensors"]):
        return f"end the network in a Linear layer (all codes are the {origin} ones; the output's 8-bit grid is not)"
    untrained = UNTRAINED_EDGES + (AGAINST_FLOAT if origin == CALIBRATED else "")
    remedies = {
        Reason.EDGE.value: "calibrate on more images (--images), so that no 8-bit grid between layers clips"
        if trained
        else untrained,
        Reason.GRID.value: "feed inputs whose zero lies on their 8-bit grid (preprocessing), so that the grid need not "
        "move",
    }
    for reason, part in shares.items():
        if reason in remedies and part >= MATTERS:
            return remedies[reason]
    correction = "" if manifest.get("bias_correction") else "try --bias-correction, or "
    more = "train longer or with more bits" if trained else "more bits"
    return f"{correction}{more}: single codes at rounding ties grow through this network"


def _sqnr(cost: Mapping[str, Any]) -> float:
    return math.inf if cost["sqnr_db"] is None else float(cost["sqnr_db"])


def _config(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    source = manifest.get("source")
    config = source.get("config") if isinstance(source, Mapping) else None
    return config if isinstance(config, Mapping) else {}
