"""Parities made up for tests."""

from __future__ import annotations

from typing import Any

from lsq_export.verification.format_parity import FormatParity
from lsq_export.verification.layer_parity import LayerParity
from lsq_export.verification.parity import Parity


def layer(differing: int, largest: int, elements: int = 10**6) -> LayerParity:
    return LayerParity(
        name="t",
        elements=elements,
        differing=differing / elements,
        largest=largest,
        histogram={largest: differing} if differing else {},
    )


def format_parity(name: str = "qoperator", **changes: Any) -> FormatParity:
    values = {
        "top1_agreement": 1.0,
        "sqnr_db": 40.0,
        "accuracy": None,
        "reference_mismatch": 0,
        "first_mismatch": None,
        "accumulator_mismatch": 0,
    }
    return FormatParity(
        **{"name": name, **values, "output_mismatch": 0, "altered": (), "layers": (layer(0, 0),), **changes}
    )


def parity_of(*formats: FormatParity, **changes: Any) -> Parity:
    values = {
        "images": 4,
        "trained_accuracy": None,
        "folded_accuracy": None,
        "folded_top1_agreement": 1.0,
        "folded_sqnr_db": 40.0,
    }
    values |= {"nudged_top1_agreement": 1.0, "nudged_sqnr_db": 40.0}
    return Parity(**{"formats": {f.name: f for f in formats}, **values, "capture_error": None, **changes})
