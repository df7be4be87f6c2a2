"""few_codes: which codes a value can have at all, where the table that makes them has few entries.

A grid of 4 bits in a container of 8 has 16 of 256 codes, low, low + step, … Kernels multiply less often where they know
that (convolutions.py); what stock operators compute stays what it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lsq_export.graph.read import array_of
from lsq_export.kernels import CONVS, DEPTHWISES, DOMAIN, LOOKUPS, PRODUCTS, SUMS

SELECTING = ("MaxPool", "NhwcMaxPool")  # give some of the codes that they read
MOST = 43  # MOST_CODES in lsq_export/kernels/source/winograd.h


@dataclass(frozen=True)
class Codes:
    """low, low + step, …: `count` of them, or some of these."""

    low: int
    step: int
    count: int


def codes_of(value: ir.Value | None) -> Codes | None:
    """None: more than MOST of them, or nobody knows."""
    entries = _entries(value)
    if entries is None:
        return None
    known = np.unique(entries.astype(np.int64))
    step = max(int(np.gcd.reduce(np.diff(known))), 1) if len(known) > 1 else 1
    count = int(known[-1] - known[0]) // step + 1
    return Codes(int(known[0]), step, count) if count <= MOST else None


def _entries(value: ir.Value | None) -> np.ndarray | None:
    """The entries of the table that a value comes from."""
    producer = None if value is None else value.producer()
    while producer is not None and producer.op_type in SELECTING:
        value = producer.inputs[0]
        producer = None if value is None else value.producer()
    if producer is None or producer.domain != DOMAIN:
        return None
    if producer.op_type in (*PRODUCTS, *SUMS):
        return array_of(producer.inputs[2])
    return array_of(producer.inputs[1]) if producer.op_type in (*LOOKUPS, *DEPTHWISES, *CONVS) else None
