"""How often a layer has each code in its weights, for the manifest and the report."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from lsq_export.graph.layers import weight_codes, weight_of

PART = 2**16  # codes at once: counting takes eight bytes for each


def centered_codes(node: ir.Node) -> np.ndarray:
    """c - Z of a layer's weights: int16, of their shape."""
    codes, _ = weight_codes(node)
    weight = weight_of(node)
    zero = weight.inputs[2] if len(weight.inputs) > 2 else None
    offset = 0 if zero is None or zero.const_value is None else int(zero.const_value.numpy().reshape(-1)[0])
    return np.asarray(codes - np.int16(offset))


def histogram_of_weights(node: ir.Node) -> dict[str, Any]:
    """The codes `first`, `first + step`, … and the `counts` of weights that have them, from the least to the largest.

    The step is the largest number that divides all codes: most often the gain of the layer (E6).
    """
    codes = centered_codes(node).reshape(-1)
    if not codes.size:
        return {"first": 0, "step": 1, "counts": []}
    first, last = int(codes.min()), int(codes.max())
    parts = range(0, codes.size, PART)
    counts = sum(np.bincount(codes[i : i + PART].astype(np.int64) - first, minlength=last - first + 1) for i in parts)
    step = int(np.gcd.reduce(np.flatnonzero(counts) + first)) or 1
    return {"first": first, "step": step, "counts": np.asarray(counts)[::step].tolist()}
