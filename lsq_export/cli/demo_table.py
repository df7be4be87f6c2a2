"""The table of `demo`: every form of the network, from float to the exported files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from lsq_export.verification.answers import main_format
from lsq_export.verification.numbers import decibel, megabytes, percent
from lsq_export.verification.parity import nudged_row

from .bench_table import ratio_cell, too_busy
from .output import print_table
from .parity_table import codes

if TYPE_CHECKING:
    from lsq_export.bench import BenchResult
    from lsq_export.bundle.directory import Bundle
    from lsq_export.training.job import FloatPhase
    from lsq_export.verification.parity import Parity

# The cells of a `Row`.
COLUMNS = (
    *("model", ">accuracy", ">top-1 agreement", ">SQNR", ">≠ integer reference", ">codes ≠ folded"),
    *(">file", ">latency", ">float / it"),
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the demo made and measured."""

    float_phase: FloatPhase
    bundle: Bundle
    parity: Parity
    bench: BenchResult


def print_models(title: str, result: Result) -> None:
    """A row for each form of the network."""
    print_table(title, COLUMNS, [astuple(row) for row in _rows(result)])


@dataclass(frozen=True, kw_only=True)
class Row:
    """The cells of one model."""

    model: str
    accuracy: str = ""
    agreement: str = ""
    sqnr: str = ""
    reference: str = ""
    codes: str = ""
    size: str = ""
    latency: str = ""
    speedup: str = ""


def _rows(result: Result) -> Iterator[Row]:
    parity = result.parity
    times = {row.name: row for row in result.bench.rows}
    base = times["float"]
    yield Row(
        model="float",
        accuracy=percent(result.float_phase.accuracy),
        size=megabytes(base.file_bytes),
        latency=f"{base.median_ms:.2f} ms",
        speedup="1.00",
    )
    yield Row(model="trained (fake-quant)", accuracy=percent(parity.trained_accuracy))
    yield Row(
        model=nudged_row(parity.grids),
        agreement=percent(parity.nudged_top1_agreement),
        sqnr=decibel(parity.nudged_sqnr_db),
    )
    yield Row(
        model="folded (float64)",
        accuracy=percent(parity.folded_accuracy),
        agreement=percent(parity.folded_top1_agreement),
        sqnr=decibel(parity.folded_sqnr_db),
    )
    for name, f in parity.formats.items():
        yield Row(
            model=f"ONNX Runtime {name}",
            accuracy=percent(f.accuracy),
            agreement=percent(f.top1_agreement),
            sqnr=decibel(f.sqnr_db),
            reference=str(f.reference_mismatch),
            codes=codes(f),
            size=megabytes(result.bundle.manifest["formats"][name]["bytes"]),
            latency=f"{times[name].median_ms:.2f} ms",
            speedup=ratio_cell(result.bench, name),
        )


def speed(result: Result) -> str:
    """For the summary: the integer network's latency against float."""
    times = {row.name: row for row in result.bench.rows}
    ours = times[main_format(result.parity.to_dict())]
    if result.bench.busy:
        return f"{ours.median_ms:.2f} ms; no ratio: {too_busy(result.bench.busy)}"
    return f"{ours.median_ms:.2f} ms, {ratio_cell(result.bench, ours.name)} × as fast as float"
