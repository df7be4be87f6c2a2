"""Standard operators alone, as onnx's own ReferenceEvaluator reads them."""

from __future__ import annotations

from .rule import USE_QDQ, Rule, measured
from .target import Target

RUNTIME = "onnx 1.23.2, ReferenceEvaluator"
_OPERATORS = "onnx 1.23.2, Operator Schemas: https://onnx.ai/onnx/operators/"

TARGET = Target(
    name="onnx-standard",
    description="standard operators only, of an operator set that onnx's ReferenceEvaluator runs",
    formats=("qdq",),
    opset=21,
    containers=("UINT8", "INT8"),
    folds=("strided", "integer"),
    optimization="default",
    versions=RUNTIME,
    advice="layers sum whole numbers in floats there; for ONNX Runtime's integer kernels: export --target ort-cpu",
    dialect=("exact-sums",),
    rules=(
        Rule("valid", f"{_OPERATORS} (onnx.checker)", "export it again with the newest version of its tool"),
        Rule("domains", _OPERATORS, USE_QDQ, {"allowed": ()}),
        Rule(
            "opset",
            measured("DequantizeLinear of the operator sets 10 to 18 is missing", RUNTIME),
            "export --target onnx-standard (operator set 21), or onnx.version_converter",
            {"lowest": 19, "having": "DequantizeLinear"},
        ),
        Rule(
            "opset",
            measured("28 is its newest operator set", RUNTIME),
            "export with an older operator set",
            {"highest": 28},
        ),
    ),
)
