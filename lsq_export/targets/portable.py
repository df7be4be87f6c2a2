"""One file for many compilers: IREE, LiteRT (through onnx2tf), Qualcomm's HTP, TVM, tract, OpenCV's older engine.

Never for ONNX Runtime, whose default optimization merges pairs that only a Clip on codes keeps apart.
"""

from __future__ import annotations

from .rule import FIX_BATCH, FLOAT_CLIP, INTEGER_OPERATORS, NOT_FOR_ORT, USE_QDQ, Rule, measured
from .target import Target

RUNTIMES = "IREE 3.13, onnx2tf 2.6.9 with LiteRT 2.1.2, onnxruntime-qnn 2.7.0, TVM 0.27.0, tract 0.23.9, OpenCV 5.0.0"

TARGET = Target(
    name="portable",
    description="compilers that read plain QDQ: IREE, TVM, tract, OpenCV, LiteRT, QNN; not for ONNX Runtime",
    formats=("qdq",),
    opset=17,
    containers=("UINT8", "INT8"),
    folds=("strided", "integer"),
    optimization="disabled",
    versions=RUNTIMES,
    advice=NOT_FOR_ORT,
    dialect=("float-clips", "trim-pads", "exact-sums"),
    batch=1,
    rules=(
        Rule(
            "domains",
            measured("operators of other domains are refused by all of them", RUNTIMES),
            USE_QDQ,
            {"allowed": ()},
        ),
        Rule(
            "operators",
            measured("refused by tract, TVM and OpenCV; wrong in IREE", RUNTIMES),
            USE_QDQ,
            {"forbidden": INTEGER_OPERATORS},
        ),
        Rule(
            "no-clip-on-codes",
            measured("wrong in IREE (compared as signed) and in onnx2tf, refused by QNN", RUNTIMES),
            FLOAT_CLIP,
        ),
        Rule(
            "code-types",
            measured("codes of fewer than 8 bits are refused by all of them", RUNTIMES),
            "use 8-bit containers: export --target portable",
            {"allowed": ("UINT8", "INT8", "INT32"), "roles": ("activation", "weight", "bias")},
        ),
        Rule(
            "fixed-inputs",
            measured("a batch that varies is refused by tract (Impossible to unify) and by QNN", RUNTIMES),
            FIX_BATCH,
        ),
        Rule(
            "opset",
            measured("files of the operator sets 17 and 21 were read by all of them", RUNTIMES),
            "export --opset 17",
            {"lowest": 13, "highest": 21},
        ),
    ),
)
