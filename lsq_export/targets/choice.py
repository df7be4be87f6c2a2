"""What is exported for which target: formats and fold, checked without any work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from calib.errors import QuantizationError, near

from .target import Target

FORMATS = ("qdq", "qoperator", "lookup")
OPSETS = (17, 26)  # operator sets of files, the oldest and the newest
LARGEST_BATCH = 65536


@dataclass(frozen=True)
class Choice:
    """A target, the formats of the files, and the fold."""

    target: Target
    formats: tuple[str, ...]
    fold: str


def choose(target: Target, formats: Iterable[str] | None, fold: str | None) -> Choice:
    """formats: None is all that the target reads. fold: None is the target's default.

    Errors (QuantizationError): a format or fold that is unknown, or not for this target.
    """
    chosen = check_formats(target.formats if formats is None else formats)
    for name in chosen:
        check_readable(name, target)
    if fold is not None and fold not in target.folds:
        raise QuantizationError(
            f"fold {fold!r} is not for the target {target.name}: use {', '.join(target.folds)}"
            f"{near(fold, target.folds)}"
        )
    return Choice(target, chosen, fold or target.folds[0])


def adjusted(
    target: Target, opset: int | None = None, batch: int | None = None, quantized_output: bool = False
) -> Target:
    """The target with another operator set, a fixed batch and codes as outputs, where they are asked for.

    Errors (QuantizationError): an operator set that files are not written in, a batch that is none.
    """
    if opset is not None and not OPSETS[0] <= opset <= OPSETS[1]:
        raise QuantizationError(f"opset is {opset}: use {OPSETS[0]} to {OPSETS[1]}")
    if batch is not None and not 1 <= batch <= LARGEST_BATCH:
        raise QuantizationError(f"batch is {batch}: use 1 to {LARGEST_BATCH}, or None for any")
    return replace(
        target, opset=opset or target.opset, batch=batch or target.batch, quantized=quantized_output or target.quantized
    )


def check_formats(formats: Iterable[str]) -> tuple[str, ...]:
    """The formats without repetitions. Errors (QuantizationError): none, or an unknown one."""
    wanted = tuple(dict.fromkeys([formats] if isinstance(formats, str) else formats))
    if not wanted:
        raise QuantizationError(f"formats is empty: use {' or '.join(FORMATS)}")
    for name in wanted:
        if name not in FORMATS:
            raise QuantizationError(f"format {name!r} is unknown: use {', '.join(FORMATS)}{near(name, FORMATS)}")
    return wanted


def check_readable(format_name: str, target: Target) -> None:
    """Errors (QuantizationError): a format that the target does not read."""
    if format_name not in target.readable:
        raise QuantizationError(
            f"target {target.name} does not read the format {format_name}: use {', '.join(target.readable)}"
        )
