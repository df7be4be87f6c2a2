"""A rule of a target: a predicate of `lsq_export.linting` with its settings, where it comes from, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Rule:
    """predicate  name of a predicate of `lsq_export.linting`
    source     a document with its version and address, or what was measured, with the runtime's version and the date
    instead    what to do where it is broken
    settings   of the predicate
    is_note    what breaks it is read and computed, but slower, or not everywhere: a note, and no error
    """

    predicate: str
    source: str
    instead: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_note: bool = False


# Operators on codes that only ONNX Runtime and its relatives read.
INTEGER_OPERATORS = (
    "ConvInteger",
    "MatMulInteger",
    "QGemm",
    "QLinearAdd",
    "QLinearAveragePool",
    "QLinearConcat",
    "QLinearConv",
    "QLinearGlobalAveragePool",
    "QLinearLeakyRelu",
    "QLinearMatMul",
    "QLinearMul",
    "QLinearReduceMean",
    "QLinearSigmoid",
    "QLinearSoftmax",
    "DynamicQuantizeLinear",
)
NARROW = ("UINT4", "INT4", "UINT2", "INT2")
USE_QDQ = "export with --format qdq, or quantize with Q/DQ nodes (quantize_static: QuantFormat.QDQ)"
FLOAT_CLIP = "put the Clip in float in front of QuantizeLinear, as export for this target does"
NOT_FOR_ORT = "ONNX Runtime's CPU provider computes it right with graph optimization disabled alone (ORT_DISABLE_ALL)"
FIX_BATCH = "export --batch 1, or onnxruntime.tools.make_dynamic_shape_fixed"


def measured(what: str, runtime: str, day: str = "2026-11-27") -> str:
    """The source of a rule that was found by running a runtime."""
    return f"measured with {runtime} on {day}: {what}"
