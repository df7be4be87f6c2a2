"""The grid of a quantizer, from the file, and where that does not say everything, from the user; nothing is guessed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calib.errors import QuantizationError
from calib.words import counted
from lsq_export.inspection.parametrizations import Asked, Stored

from .learned import Learned, Raw, learned
from .mapping import UserMapping, listed
from .reading import Checkpoint

LARGEST = 2**32  # of a code: wider grids than of 8 bits stay float
NEAR = 1e-6  # relative: of a threshold and the power of two that it is


def grid_of(raw: Raw, file: Checkpoint, said: UserMapping) -> Learned:
    """Errors (QuantizationError): what it needs is neither in the file nor said; numbers that are no grid."""
    weight = raw.role == "weight"
    asked = Asked(
        bits=raw.bits or said.bits_of(weight),
        signed=raw.signed if raw.signed is not None else _is_signed(raw, said),
        weight=weight,
        narrow=_is_narrow(raw, file, said),
        ranges=said.ranges,  # type: ignore[arg-type]
    )
    stored = raw.grid(asked)
    if stored.bits is None and (stored.scale is None or stored.codes is None):
        raise QuantizationError(
            f"{file.where} does not say how many bits {raw.name} has: give --bits, or bits in a mapping file"
        )
    if stored.codes is None or stored.scale is None:
        raise QuantizationError(
            f'{file.where} does not say whether {raw.name} has signed codes: give activations = "unsigned" or '
            '"signed" in a mapping file, or the names of quantizers in its lists unsigned and signed'
        )
    if weight and asked.signed is None:
        _check_sign(raw, stored, file.where)
    if stored.low is not None and stored.high is not None and (stored.high < stored.low).any() and said.ranges is None:
        raise QuantizationError(
            f"{file.where}: {raw.name} has the range {(stored.high - stored.low).min():.6g}, below zero, as logarithms "
            'have it: say ranges = "log2" or "power-of-two" in a mapping file, or "linear" if its magnitude is meant'
        )
    _check_grid(raw, stored, file.where)
    if not weight and file.library is not None and file.library.power_of_two:
        stored = _as_deployed(raw, stored, file.where, said)
    return learned(raw, stored)


def _is_signed(raw: Raw, said: UserMapping) -> bool | None:
    """Of a weight by its own name: its layer's is that of the activation in front of it as well."""
    return said.is_signed(raw.name, weight=True) if raw.role == "weight" else said.is_signed(raw.place)


def _is_narrow(raw: Raw, file: Checkpoint, said: UserMapping) -> bool:
    if raw.narrow is not None:
        return raw.narrow
    by_library = raw.role == "weight" and file.library is not None and file.library.narrow
    return by_library or listed(raw.name, said.narrow) or (raw.role != "weight" and listed(raw.place, said.narrow))


def _check_sign(raw: Raw, stored: Stored, where: str) -> None:
    """Errors (QuantizationError): zero points that signed codes do not have."""
    assert stored.codes is not None
    if stored.zero_point is None or raw.whole or stored.codes[0] >= 0:
        return
    beyond = stored.zero_point[stored.zero_point > stored.codes[1]]
    if beyond.size:
        raise QuantizationError(
            f"{where}: {raw.name} has the zero point {beyond[0]:g}, and signed codes end at {stored.codes[1]}: if its "
            f'codes are unsigned, say unsigned = ["{raw.name}"] (or a pattern) in a mapping file'
        )


def _check_grid(raw: Raw, stored: Stored, where: str) -> None:
    """Errors (QuantizationError): numbers that no quantizer can have had."""
    assert stored.codes is not None and stored.scale is not None
    first, last = stored.codes
    if not -LARGEST <= first < last <= LARGEST:
        raise QuantizationError(f"{where}: {raw.name} has the codes {first} … {last}, which are no grid's")
    scale, zero = stored.scale, np.zeros(1) if stored.zero_point is None else stored.zero_point
    if not scale.size or not zero.size or (1 not in (zero.size, scale.size) and zero.size != scale.size):
        raise QuantizationError(
            f"{where}: {raw.name} has {counted(scale.size, 'scale')} and {counted(zero.size, 'zero point')}"
        )
    with np.errstate(all="ignore"):  # float32 is what the simulation has, too
        held, offset = scale.astype(np.float32), (zero * scale).astype(np.float32)
    for what, values, bad in (
        ("scale", scale, ~(np.isfinite(held) & (held > 0))),
        ("zero point", zero, ~np.isfinite(zero) | (~np.isfinite(offset)).any()),
    ):
        if bad.any():
            raise QuantizationError(
                f"{where}: {raw.name} has the {what} {values[bad][0]:.6g}, which is no grid: train or calibrate it "
                "again, or leave it out (skip in a mapping file)"
            )


def _as_deployed(raw: Raw, stored: Stored, where: str, said: UserMapping) -> Stored:
    """MCT trains thresholds, and its finalize rounds each up to a power of two; a file of both looks the same."""
    assert stored.high is not None and stored.scale is not None
    rounded = 2.0 ** np.ceil(np.log2(stored.high))
    if (np.abs(rounded - stored.high) <= NEAR * rounded).all() and said.thresholds is None:
        return stored
    if said.thresholds is None:
        raise QuantizationError(
            f"{where}: the threshold of {raw.name} is {stored.high[0]:.9g}, which finalize rounds up to "
            f'{rounded[0]:g}: say thresholds = "power-of-two" (as deployed) or "free" (as trained) in a mapping file'
        )
    return stored if said.thresholds == "free" else replace(stored, scale=stored.scale / stored.high * rounded)
