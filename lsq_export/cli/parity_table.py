"""The tables of a parity result, for `export`, `verify` and `demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .output import print_table

if TYPE_CHECKING:
    from ..parity import FormatParity, Parity

FORMAT_COLUMNS = ("model", ">top-1 agreement", ">SQNR", ">accuracy", ">≠ integer reference", ">codes ≠ folded")


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def decibel(value: float) -> str:
    return f"{value:.1f} dB"


def codes(parity: FormatParity) -> str:
    """differing / compared, over all tensors of codes."""
    differing = sum(sum(layer.histogram.values()) for layer in parity.layers)
    return f"{differing} of {sum(layer.elements for layer in parity.layers)}"


def print_parity(parity: Parity, *, layers: bool) -> None:
    """Formats against the trained model, and, layer by layer, against the folded one."""
    rows: list[tuple[str, ...]] = [("trained", "", "", percent(parity.trained_accuracy), "", "")]
    rows.append(("folded (float64)", percent(parity.folded_top1_agreement), decibel(parity.folded_sqnr_db), percent(parity.folded_accuracy), "", ""))
    for name, f in parity.formats.items():
        rows.append(
            (f"{name} (ONNX Runtime)", percent(f.top1_agreement), decibel(f.sqnr_db), percent(f.accuracy), str(f.reference_mismatch), codes(f))
        )
    print_table(f"Against the trained model, {parity.images} images", FORMAT_COLUMNS, rows)
    if layers:
        for name, f in parity.formats.items():
            click.echo()
            table = [(layer.name, layer.elements, f"{layer.differing:.1e}" if layer.differing else "0", layer.largest) for layer in f.layers]
            print_table(f"{name}: codes against the folded model, on the same inputs", ("tensor", ">elements", ">differing", ">largest"), table)


def print_verdict(parity: Parity) -> None:
    """One line a broken promise on stderr, or that all hold."""
    for line in parity.failures:
        click.echo(f"FAILED: {line}", err=True)
    if parity.ok:
        click.echo("all promises hold")
