"""onnxruntime-web: ONNX Runtime's CPU provider in WebAssembly, in browsers and node."""

from __future__ import annotations

from .ort_cpu import MERGED
from .rule import Rule, measured
from .target import Target

RUNTIME = "onnxruntime-web 1.30.0"
_LARGE = "onnxruntime.ai, Working with Large Models: https://onnxruntime.ai/docs/tutorials/web/large-models.html"

TARGET = Target(
    name="web",
    description="onnxruntime-web (WebAssembly), in browsers and node",
    formats=("qdq", "qoperator"),
    opset=17,
    containers=("UINT8", "INT8"),
    folds=("strided", "integer"),
    optimization="default",
    dialect=("bias-zero-points",),
    versions=RUNTIME,
    rules=(
        Rule(
            "code-types",
            measured("files with types of 4 bits hang, those of 2 bits do not load or are wrong", RUNTIME),
            "use 8-bit containers: export --target web",
            {"allowed": ("UINT8", "INT8", "INT32", "UINT16", "INT16"), "roles": ("activation", "weight", "bias")},
        ),
        Rule(
            "domains",
            measured("custom operators cannot be registered; those of com.microsoft are built in", RUNTIME),
            "export without custom operators: --format qdq or qoperator",
            {"allowed": ("ai.onnx.ml", "com.microsoft")},
        ),
        Rule(
            "file-size",
            f"{_LARGE} (an ArrayBuffer has at most 0x7fe00000 bytes in Chrome)",
            "a smaller network, or weights of fewer bits",
            {"largest": 0x7FE00000},
        ),
        Rule(
            "opset",
            measured("it has the kernels of ONNX Runtime: 28 has none", RUNTIME),
            "export with an older operator set",
            {"lowest": 7, "highest": 26},
        ),
        MERGED,
    ),
)
