"""LiteRT (TensorFlow Lite) through onnx2tf."""

from __future__ import annotations

from .rule import FIX_BATCH, FLOAT_CLIP, INTEGER_OPERATORS, NOT_FOR_ORT, USE_QDQ, Rule, measured
from .target import Target

RUNTIME = "onnx2tf 2.6.9 with ai-edge-litert 2.1.2"
_SPEC = "LiteRT 8-bit quantization specification: https://ai.google.dev/edge/litert/models/quantization_spec"

TARGET = Target(
    name="litert",
    description="LiteRT (TFLite) through onnx2tf",
    formats=("qdq",),
    opset=17,
    containers=("UINT8", "INT8"),
    folds=("strided", "integer"),
    optimization="disabled",
    versions=RUNTIME,
    advice=NOT_FOR_ORT,
    dialect=("int8-weights", "float-clips", "exact-sums", "one-dequantize"),
    batch=1,
    rules=(
        Rule(
            "no-clip-on-codes",
            measured("codes are shifted to INT8 and the bounds of Clip are not: silently wrong", RUNTIME),
            FLOAT_CLIP,
        ),
        Rule(
            "zero-points",
            f"{_SPEC} (weights: INT8 in -127 … 127 with the zero point 0)",
            "store weights as INT8: export --target litert",
            {"roles": ("weight",)},
        ),
        Rule(
            "code-types",
            measured("types of fewer than 8 bits are not supported", RUNTIME),
            "use 8-bit containers: export --target litert",
            {"allowed": ("UINT8", "INT8", "INT32", "INT16"), "roles": ("activation", "weight", "bias")},
        ),
        Rule(
            "operators",
            measured("the file is written, and the interpreter refuses it", RUNTIME),
            USE_QDQ,
            {"forbidden": INTEGER_OPERATORS},
        ),
        Rule(
            "one-dequantize",
            measured(
                "of two scales for the same codes one is taken for the other: silently wrong", RUNTIME, "2026-11-30"
            ),
            "export --target litert, where a Mul makes the second of the first",
        ),
        Rule("domains", measured("operators of other domains are not converted", RUNTIME), USE_QDQ, {"allowed": ()}),
        Rule("fixed-inputs", measured("files with a fixed batch were converted", RUNTIME), FIX_BATCH, is_note=True),
    ),
)
