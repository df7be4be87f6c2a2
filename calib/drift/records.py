"""The record of what `measure` counted, as JSON-able values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calib.errors import QuantizationError

from .range_use import RangeUse

RECORD = "range_use"  # the key of the record in a checkpoint's `extra`


def to_record(uses: Mapping[str, RangeUse]) -> list[dict[str, Any]]:
    """What `measure` returned, as JSON-able values; a checkpoint keeps it as extra[RECORD]."""
    return [use.to_dict() for use in uses.values()]


def from_record(record: Any) -> dict[str, RangeUse]:
    """The inverse of to_record. Errors (QuantizationError): a record that cannot be read."""
    if not isinstance(record, list):
        raise QuantizationError(
            f"the record of calibration is {type(record).__name__}, not a list of quantizers: measure it again"
        )
    return {use.name: use for use in map(RangeUse.from_dict, record)}
