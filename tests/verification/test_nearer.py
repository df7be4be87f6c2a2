"""lsq_export/verification/nearer.py: what would help, read from what was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lsq_export.verification.layer_parity import LayerParity
from lsq_export.verification.nearer import behind, could_be_nearer, nearer, reason_shares
from lsq_export.verification.reasons import Reason
from support.parities import format_parity, layer, parity_of


def differing(**reasons: int) -> LayerParity:
    """1,000,000 elements that differ for these reasons."""
    counted = {Reason[name.upper()]: count for name, count in reasons.items()}
    return replace(layer(sum(reasons.values()), 1), reasons=counted)


def parity_with(*layers: LayerParity, **changes: Any) -> dict[str, Any]:
    changes = {"folded_sqnr_db": 20.0, "nudged_sqnr_db": 35.0, **changes}
    return parity_of(format_parity(), trained_layers=layers, **changes).to_dict()


def manifest_with(offset: str = "real", edges: str = "calibrated", **more: Any) -> dict[str, Any]:
    costs = [{"fold": "strided", "images": 64, "codes_differing": 0.1, "sqnr_db": 20.0, "top1_agreement": 1.0}]
    config = {"offset": offset, "edges": edges}
    return {"fold": "strided", "folds": costs, "tensors": [], "source": {"config": config}, **more}


BOTH = (differing(edge=600, border=200), differing(grid=200, tie=5))


@pytest.mark.parametrize(("folded", "nudged", "expected"), [(20, 35, 15), (35, 20, 0), (20, 200, 0)])
def test_how_far_a_fold_is_behind(folded: float, nudged: float, expected: float) -> None:
    assert behind({"folded_sqnr_db": folded, "nudged_sqnr_db": nudged}) == expected
    assert behind({"folded_sqnr_db": None, "nudged_sqnr_db": nudged}) == 0
    assert behind({"folded_sqnr_db": folded}) == behind({"folded_sqnr_db": folded, "nudged_sqnr_db": None}) == 0


def test_shares_weigh_every_tensor_by_what_differs_in_it() -> None:
    small = replace(differing(tie=1), elements=10)
    assert reason_shares(parity_with(small, differing(edge=100_000))) == pytest.approx({"tie": 0.5, "edge": 0.5})
    assert reason_shares(parity_with()) == {}


def test_a_near_or_broken_fold_needs_no_advice() -> None:
    assert nearer(manifest_with(), parity_with(*BOTH, folded_sqnr_db=33.0)) is None
    assert nearer(manifest_with(), parity_with(*BOTH, folded_sqnr_db=-1.0)) is None
    assert nearer(manifest_with(), parity_with(*BOTH, nudged_sqnr_db=float("inf"))) is None


@pytest.mark.parametrize(
    ("same", "folded", "nudged", "advised"),
    [
        (0.6, 4.7, float("inf"), True),  # no yardstick, but the answers are others
        (0.96, 4.7, float("inf"), False),
        (0.6, 33.0, 35.0, True),  # 2 dB behind
        (0.6, 35.0, 35.0, False),  # the trained network answers noise in the same way
        (0.6, float("inf"), 35.0, False),
    ],
)
def test_other_answers_ask_for_advice(same: float, folded: float, nudged: float, advised: bool) -> None:
    formats = format_parity(top1_agreement=same)
    parity = parity_of(formats, trained_layers=BOTH, folded_sqnr_db=folded, nudged_sqnr_db=nudged).to_dict()
    assert could_be_nearer(parity) is (nearer(manifest_with(), parity) is not None) is advised
    assert could_be_nearer({**parity, "ok": False}) is False


@pytest.mark.parametrize(
    ("offset", "edges", "says"),
    [
        (
            "real",
            "calibrated",
            "train with --edges trained --offset container (untrained 8-bit grids 60%",
        ),
        ("real", "trained", "train with --offset container ("),
        ("container", "calibrated", "train with --edges trained (untrained 8-bit grids 60%)"),
        ("container", "trained", "calibrate on more images (--images)"),
    ],
)
def test_options_that_are_not_used_yet(offset: str, edges: str, says: str) -> None:
    text = nearer(manifest_with(offset, edges), parity_with(*BOTH))
    assert text is not None and text.startswith(says)


def test_without_a_configuration_reasons_decide() -> None:
    text = nearer({**manifest_with(), "source": None}, parity_with(differing(border=7)))
    assert text == "train with --offset container (borders 100%)"


CONFIG = {"offset": "real", "edges": "calibrated"}
UNTRAINED = [
    {"file": "net.onnx"},  # of an older version
    {"file": "net.onnx", "grids": "calibrated"},
    {"config": CONFIG, "grids": "calibrated"},  # calibrate --model
    {"file": "net.pth", "config": CONFIG, "library": "Brevitas", "grids": "adopted"},
]


@pytest.mark.parametrize("source", UNTRAINED)
@pytest.mark.parametrize(
    "found", [differing(border=7), differing(edge=7), differing(grid=7), differing(tie=7), layer(0, 0)]
)
def test_nobody_is_told_to_train_what_was_not_trained_here(found: LayerParity, source: dict[str, Any]) -> None:
    text = nearer({**manifest_with(tensors=[{"kind": "edge"}]), "source": source}, parity_with(found))
    assert text is not None and "on more images" not in text
    assert "train" not in text or "grids" not in source
    calibrated = found.reasons.get(Reason.EDGE) and source.get("grids") == "calibrated"
    assert ("calibrate says: against float" in text) == bool(calibrated)


def test_a_fold_that_was_measured_comes_first() -> None:
    manifest = manifest_with()
    manifest["folds"].append({**manifest["folds"][0], "fold": "integer", "sqnr_db": 30.0})
    text = nearer(manifest, parity_with(*BOTH))
    assert text == "export with --fold integer (30.0 dB instead of 20.0 dB on 64 calibration images)"
    manifest["folds"][-1] = {"fold": "integer", "refused": "no"}
    assert "--fold" not in (nearer(manifest, parity_with(*BOTH)) or "")


def test_what_no_option_of_the_training_mends() -> None:
    trained = manifest_with("container", "trained")
    assert "zero lies on their 8-bit grid" in (nearer(trained, parity_with(differing(grid=9))) or "")
    assert "try --bias-correction" in (nearer(trained, parity_with(differing(tie=9))) or "")
    corrected = manifest_with("container", "trained", bias_correction={"summary": ""})
    assert (nearer(corrected, parity_with(differing(tie=9))) or "").startswith("train longer or with more bits")
    output = manifest_with("container", "trained", tensors=[{"kind": "edge"}])
    assert "Linear" in (nearer(output, parity_with(layer(0, 0))) or "")


def test_the_advice_is_for_what_the_worst_layer_shows() -> None:
    """Under the integer fold: a network trained with offset="container" gets its zero points among the few codes."""
    worst, others = differing(border=900), [differing(tie=800)] * 5
    low = {**manifest_with("container", "trained"), "fold": "integer"}
    text = nearer(low, parity_with(*others, worst))
    assert text is not None and text.startswith("train with --offset integer (borders ")
    trained = nearer({**manifest_with("integer", "trained"), "fold": "integer"}, parity_with(*others, worst))
    assert trained is not None and "offset" not in trained
    moved = nearer(manifest_with("container", "trained"), parity_with(*[differing(edge=300)] * 5, differing(grid=900)))
    assert moved is not None and moved.startswith("feed inputs whose zero")
