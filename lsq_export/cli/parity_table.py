"""The tables of a parity result, for `export`, `verify` and `demo`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from lsq_export.verification.parity import NUDGED

from .output import print_table

if TYPE_CHECKING:
    from lsq_export.verification.parity import FormatParity, LayerParity, Parity

SHOWN = 6  # entries of a histogram
FORMAT_COLUMNS = ("model", ">top-1 agreement", ">SQNR", ">accuracy", ">≠ integer reference", ">codes ≠ folded")


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def decibel(value: float | None) -> str:
    """None: what JSON says for infinity."""
    return f"{math.inf if value is None else value:.1f} dB"


def codes(parity: FormatParity) -> str:
    """differing / compared, over all tensors of codes."""
    differing = sum(sum(layer.histogram.values()) for layer in parity.layers)
    return f"{differing} of {sum(layer.elements for layer in parity.layers)}"


def print_parity(parity: Parity, *, layers: bool) -> None:
    """Formats against the trained model, and, layer by layer, against the folded one."""
    rows: list[tuple[str, ...]] = [("trained", "", "", percent(parity.trained_accuracy), "", "")]
    rows.append((NUDGED, percent(parity.nudged_top1_agreement), decibel(parity.nudged_sqnr_db), "", "", ""))
    rows.append(
        (
            "folded (float64)",
            percent(parity.folded_top1_agreement),
            decibel(parity.folded_sqnr_db),
            percent(parity.folded_accuracy),
            "",
            "",
        )
    )
    for name, f in parity.formats.items():
        rows.append(
            (
                f"{name} (ONNX Runtime)",
                percent(f.top1_agreement),
                decibel(f.sqnr_db),
                percent(f.accuracy),
                str(f.reference_mismatch),
                codes(f),
            )
        )
    print_table(f"Against the trained model, {parity.images} images", FORMAT_COLUMNS, rows)
    if layers:
        _print_layers("Folded against trained: codes of learned quantizers, on the same inputs", parity.trained_layers)
        _print_reasons(parity.trained_layers)
        for name, f in parity.formats.items():
            _print_layers(f"{name} against folded: codes, on the same inputs", f.layers)


def print_islands(parity: Parity) -> None:
    """The operators that stay float in qoperator, and what that does to the first promise."""
    exact = parity.formats.get("qoperator")
    if exact is None or not exact.islands:
        return
    click.echo()
    rows = [(", ".join(i.operators), i.codes, i.elements, i.differing, i.largest) for i in exact.islands]
    columns = ("operators", "codes behind them", ">compared", ">≠ float64", ">largest difference")
    names = {name for island in exact.islands for name in island.operators}
    print_table(f"Float islands: {len(names)} operators have no integer form", columns, rows)
    click.echo(
        "Everything else is held to the integer reference on the codes of these islands as ONNX Runtime made them "
        "here. Those are float32"
    )
    click.echo(
        "functions: another machine or runtime may round a tie the other way, by one code, and what follows differs "
        "accordingly."
    )


def _print_layers(title: str, layers: tuple[LayerParity, ...]) -> None:
    """Histograms of differences of the layers that have one, in the order of the network."""
    if not layers:
        return
    click.echo()
    differing = [layer for layer in layers if layer.histogram]
    table = [
        (layer.name, layer.elements, f"{layer.differing:.1e}", histogram(layer), reasons(layer)) for layer in differing
    ]
    if differing:
        print_table(title, ("tensor", ">elements", ">differing", "difference: elements", "reason"), table)
    else:
        click.echo(title)
    click.echo(f"{len(differing) or 'no'} of {len(layers)} tensors differ (all of them: parity.json)")


def _print_reasons(layers: tuple[LayerParity, ...]) -> None:
    """What the reasons in their table mean."""
    from lsq_export.verification.reasons import EXPLAINED  # onnx_ir: not for --help

    found = {reason for layer in layers for reason in layer.reasons}
    for reason, meaning in EXPLAINED.items():
        if reason in found:
            click.echo(f"{reason}: {meaning}")


def histogram(layer: LayerParity) -> str:
    """-1: 3, +1: 5; the largest in place of the middle where there are many."""
    entries = [f"{step:+d}: {count}" for step, count in sorted(layer.histogram.items())]
    return ", ".join(entries if len(entries) <= SHOWN else [*entries[: SHOWN // 2], "…", *entries[-SHOWN // 2 :]])


def reasons(layer: LayerParity) -> str:
    """tie; or, where there are several, tie 5, border 3."""
    found = sorted(layer.reasons.items(), key=lambda entry: -entry[1])
    return found[0][0] if len(found) == 1 else ", ".join(f"{reason} {count}" for reason, count in found) or "unknown"


def print_verdict(parity: Parity) -> None:
    """One line a broken promise on stderr, or that all hold."""
    for line in parity.failures:
        click.echo(f"FAILED: {line}", err=True)
    if parity.ok:
        click.echo("all promises hold")
