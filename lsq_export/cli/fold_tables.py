"""The tables of what a fold decided and what it costs, for `export`: from a bundle's manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from calib.words import counted
from lsq_export.qat.origins import origin_of
from lsq_export.rewrite.contract.decisions import decisions_of, sums_summary
from lsq_export.verification.numbers import decibel, percent

from .output import print_entries, print_table, say

Cells = Mapping[str, Callable[[Mapping[str, Any]], object]]

GRIDS: Cells = {
    "tensor": lambda t: t["name"],
    "kind": lambda t: t["kind"],
    ">levels": lambda t: t["levels"],
    ">s": lambda t: f"{t['scale']:.4g}",
    ">β": lambda t: f"{t['offset'] + 0.0:.4g}",
    ">β′": lambda t: f"{t['offset_carried'] + 0.0:.4g}",
    ">(β′−β)/s": lambda t: f"{round(t['error_steps'], 4) + 0.0:+.4f}",
    ">k": lambda t: t["stride"],
    ">o": lambda t: t["origin"],
    ">Z": lambda t: t["zero_point"],
    ">border error": lambda t: f"{t['border']:.2g}",
    "remainder": lambda t: f"bias of {', '.join(t['carried_by'])}" if t["carried_by"] else t["remainder"],
}
LAYERS: Cells = {
    "layer": lambda e: e["name"],
    ">bits": lambda e: e["bits"],
    "container": lambda e: e["container"],
    ">gain": lambda e: e["gain"],
    ">bias rounding, steps": lambda e: f"{e['bias_error_steps']:.2g}",
    ">|accumulator| <=": lambda e: e["accumulator"],
    ">dead channels": lambda e: e["dead_channels"],
}


def print_fold(manifest: Mapping[str, Any]) -> None:
    """All of them."""
    print_grids(manifest)
    say()
    print_layers(manifest)
    say()
    print_costs(manifest)
    if manifest["bias_correction"]:
        say(manifest["bias_correction"]["summary"])


def print_grids(manifest: Mapping[str, Any]) -> None:
    """What became of each activation and edge."""
    print_entries("Grids after the fold", GRIDS, manifest["tensors"])
    origin = origin_of(manifest.get("source"))
    say(
        f"{origin}: values s·q + β for q = 0 … levels - 1; in the file: codes k·q + o, scale s/k, zero point Z, which "
        "stands for β′"
    )
    say("border error: the most that padding is off by, in units of the next output; remainder: where β − β′ went")


def print_layers(manifest: Mapping[str, Any]) -> None:
    """Weights and biases on integers."""
    print_entries("Layers after the fold", LAYERS, manifest["layers"])
    say("gain: the codes were multiplied by it; bias rounding: in steps of the layer's output grid")
    sums = sums_summary(decisions_of(manifest)[1])
    if sums:
        say(sums)


def print_costs(manifest: Mapping[str, Any]) -> None:
    """What each fold of the target costs."""
    images = max((cost.get("images", 0) for cost in manifest["folds"]), default=0)
    model = f"the {origin_of(manifest.get('source'))} model"
    title = f"What each fold costs against {model}, end to end on {counted(images, 'calibration image')}"
    rows = [_cost_row(cost, chosen=cost["fold"] == manifest["fold"]) for cost in manifest["folds"]]
    print_table(title, ("fold", ">codes that differ", ">SQNR", ">top-1 agreement"), rows)


def _cost_row(cost: Mapping[str, Any], *, chosen: bool) -> tuple[str, ...]:
    name = f"{cost['fold']}{' (chosen)' if chosen else ''}"
    if "refused" in cost:
        return (name, cost["refused"], "", "")
    return (name, percent(cost["codes_differing"]), decibel(cost["sqnr_db"]), percent(cost["top1_agreement"]))
