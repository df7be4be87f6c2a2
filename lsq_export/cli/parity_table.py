"""The tables of a parity result, for `export`, `verify` and `demo`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from calib.words import counted
from lsq_export.qat.origins import grids_called
from lsq_export.verification.answers import answers_otherwise
from lsq_export.verification.nearer import could_be_nearer
from lsq_export.verification.numbers import decibel, percent
from lsq_export.verification.parity import nudged_row
from lsq_export.verification.reasons import explained
from lsq_export.verification.summary import float_accuracy

from .output import print_entries, print_table, say

if TYPE_CHECKING:
    from lsq_export.verification.against_float import AgainstFloat
    from lsq_export.verification.format_parity import FormatParity
    from lsq_export.verification.layer_parity import IslandParity, LayerParity
    from lsq_export.verification.parity import Parity

NOT_MEASURED = "not measured"
SHOWN = 6  # entries of a histogram
FORMAT_COLUMNS = ("model", ">top-1 agreement", ">SQNR", ">accuracy", ">≠ integer reference", ">codes ≠ folded")


def float_cell(parity: Parity) -> tuple[str, str]:
    """(accuracy of the float network, where it was measured if that is elsewhere)."""
    value, where = float_accuracy(parity.to_dict())
    return NOT_MEASURED if value is None else percent(value), where


def codes(parity: FormatParity) -> str:
    """differing / compared, over all tensors of codes."""
    differing = sum(sum(layer.histogram.values()) for layer in parity.layers)
    return f"{differing} of {sum(layer.elements for layer in parity.layers)}"


def print_parity(parity: Parity, *, layers: bool) -> None:
    """Formats against the trained model, and, layer by layer, against the folded one."""
    title = f"Against the {parity.grids} model, {counted(parity.images, 'image')}"
    print_table(title, FORMAT_COLUMNS, [astuple(row) for row in _rows(parity)])
    _print_outputs(parity)
    if layers:
        codes_of = f"codes of {grids_called(parity.grids)} quantizers"
        _print_layers(f"Folded against {parity.grids}: {codes_of}, on the same inputs", parity.trained_layers)
        _print_reasons(parity)
        for name, f in parity.formats.items():
            _print_layers(f"{name} against folded: codes, on the same inputs", f.layers)


def _print_outputs(parity: Parity) -> None:
    """The SQNR of each output, where there are several; the table above has the worst one, and classes of the first."""
    if not parity.folded_outputs_sqnr_db:
        return
    columns = [(nudged_row(parity.grids), parity.nudged_outputs_sqnr_db), ("folded", parity.folded_outputs_sqnr_db)]
    columns += [(name, f.outputs_sqnr_db) for name, f in parity.formats.items()]
    rows = [
        (output, *(decibel(found[output]) if output in found else "" for _, found in columns))
        for output in parity.folded_outputs_sqnr_db
    ]
    say()
    print_table("SQNR of each output", ("output", *(f">{name}" for name, _ in columns)), rows)


@dataclass(frozen=True, kw_only=True)
class _Row:
    """The cells of FORMAT_COLUMNS."""

    model: str
    agreement: str = ""
    sqnr: str = ""
    accuracy: str = ""
    reference: str = ""
    codes: str = ""


def _rows(parity: Parity) -> Iterator[_Row]:
    float_text, where = float_cell(parity)
    yield _Row(model=f"float{where}", accuracy=float_text)
    yield _Row(model=parity.grids, accuracy=percent(parity.trained_accuracy))
    yield _Row(
        model=nudged_row(parity.grids),
        agreement=percent(parity.nudged_top1_agreement),
        sqnr=decibel(parity.nudged_sqnr_db),
    )
    yield _Row(
        model="folded (float64)",
        agreement=percent(parity.folded_top1_agreement),
        sqnr=decibel(parity.folded_sqnr_db),
        accuracy=percent(parity.folded_accuracy),
    )
    for name, f in parity.formats.items():
        yield _Row(
            model=f"{name} (ONNX Runtime)",
            agreement=percent(f.top1_agreement),
            sqnr=decibel(f.sqnr_db),
            accuracy=percent(f.accuracy),
            reference=str(f.reference_mismatch),
            codes=codes(f),
        )


def print_islands(parity: Parity) -> None:
    """The operators that stay float in qoperator, and what that does to the first promise."""
    exact = parity.formats.get("qoperator")
    if exact is None or not exact.islands:
        return
    say()
    names = {name for island in exact.islands for name in island.operators}
    print_entries(
        f"Float islands: {counted(len(names), 'operator has', 'operators have')} no integer form, or shall stay float",
        ISLAND_COLUMNS,
        exact.islands,
    )
    say(
        "Everything else is held to the integer reference on the codes of these islands as ONNX Runtime made them "
        "here. Those are float32"
    )
    say(
        "functions: another machine or runtime may round a tie the other way, by one code, and what follows differs "
        "accordingly."
    )


def _print_layers(title: str, layers: tuple[LayerParity, ...]) -> None:
    """Histograms of differences of the layers that have one, the worst first."""
    if not layers:
        return
    say()
    differing = sorted((layer for layer in layers if layer.histogram), key=lambda layer: -layer.differing)
    if differing:
        print_entries(title, LAYER_COLUMNS, differing)
    else:
        say(title)
    say(f"{len(differing) or 'none'} of {len(layers)} tensors differ (all of them: parity.json)")


def _print_reasons(parity: Parity) -> None:
    """What the reasons in the table of learned quantizers mean."""
    present = {reason for layer in parity.trained_layers for reason in layer.reasons}
    for reason, meaning in explained(parity.grids).items():
        if reason in present:
            say(f"{reason}: {meaning}")


def histogram(layer: LayerParity) -> str:
    """-1: 3, +1: 5; the smallest and the largest where there are many."""
    entries = [f"{step:+d}: {count}" for step, count in sorted(layer.histogram.items())]
    return ", ".join(entries if len(entries) <= SHOWN else [*entries[: SHOWN // 2], "…", *entries[-SHOWN // 2 :]])


def reasons(layer: LayerParity) -> str:
    """tie; or, where there are several, tie 5, border 3."""
    counts = sorted(layer.reasons.items(), key=lambda entry: -entry[1])
    if len(counts) == 1:
        return str(counts[0][0])
    return ", ".join(f"{reason} {count}" for reason, count in counts) or "unknown"


LAYER_COLUMNS: Mapping[str, Callable[[LayerParity], object]] = {
    "tensor": lambda layer: layer.name,
    ">elements": lambda layer: layer.elements,
    ">differing": lambda layer: f"{layer.differing:.1e}",
    "difference: elements": histogram,
    "reason": reasons,
}
ISLAND_COLUMNS: Mapping[str, Callable[[IslandParity], object]] = {
    "operators": lambda island: ", ".join(island.operators),
    "codes after them": lambda island: island.codes,
    ">compared": lambda island: island.elements,
    ">≠ float64": lambda island: island.differing,
    ">largest difference": lambda island: island.largest,
}


def print_verdict(parity: Parity, cost: AgainstFloat | None = None) -> None:
    """One line for each broken promise on stderr, or that all hold. cost: beside the float network, where it is known.

    Where all hold and the answers are others all the same, it says where to go on reading, or why that is no fault.
    """
    for line in parity.failures:
        say(f"FAILED: {line}", err=True)
    if parity.ok:
        plain = parity.to_dict()
        see = f": see {'nearer' if could_be_nearer(plain) else 'fold'}" if answers_otherwise(plain) else ""
        loss = f"; {cost.loss}" if cost is not None and cost.loss else ""
        say(f"{parity.verdict}{see}{loss}")
