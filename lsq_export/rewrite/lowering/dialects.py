"""The rewrites of a qdq file that targets ask for by name (`lsq_export.targets.Target.dialect`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import onnx_ir as ir

from .around_zero import around_zero
from .bias_zero_points import bias_zero_points
from .dense_groups import dense_groups
from .exact_sums import exact_sums
from .float_biases import float_biases
from .float_clips import float_clips
from .int8_codes import int8_codes
from .int8_weights import int8_weights
from .keep_branches import keep_branches
from .keep_pairs_apart import keep_pairs_apart
from .one_dequantize import one_dequantize
from .round_first import round_first
from .saturating_pairs import saturating_pairs
from .split_strides import split_strides
from .trim_pads import trim_pads

FLOAT_CLIPS, PAIRS = "float-clips", "saturating-pairs"
REWRITES: Mapping[str, Callable[[ir.Model], None]] = {
    FLOAT_CLIPS: float_clips,
    PAIRS: saturating_pairs,
    "int8-weights": int8_weights,
    "around-zero": around_zero,
    "keep-branches": keep_branches,
    "split-strides": split_strides,
    "trim-pads": trim_pads,
    "int8-codes": int8_codes,
    "dense-groups": dense_groups,
    "float-biases": float_biases,
    "bias-zero-points": bias_zero_points,
    "exact-sums": exact_sums,
    "round-first": round_first,
    "one-dequantize": one_dequantize,
}


def in_dialect(model: ir.Model, names: Iterable[str]) -> ir.Model:
    """A QDQ graph of its own, rewritten as the names say; without any, one that ONNX Runtime does not merge."""
    names = tuple(names)
    if not {FLOAT_CLIPS, PAIRS} & {*names}:
        model = keep_pairs_apart(model)
    for name in names:
        REWRITES[name](model)
    return model
