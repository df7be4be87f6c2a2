"""OpenCV's dnn module: it fuses a Sigmoid into a layer with the wrong zero point, and adds zero points too early."""

from __future__ import annotations

from .rule import FLOAT_CLIP, INTEGER_OPERATORS, NOT_FOR_ORT, USE_QDQ, Rule, measured
from .target import Target

RUNTIME = "OpenCV 5.0.0.93"

TARGET = Target(
    name="opencv",
    description="OpenCV's dnn module, both engines",
    formats=("qdq",),
    opset=17,
    containers=("UINT8", "INT8"),
    folds=("strided", "integer"),
    optimization="disabled",
    versions=RUNTIME,
    advice=NOT_FOR_ORT,
    dialect=("float-clips", "dense-groups", "exact-sums", "round-first"),
    rules=(
        Rule(
            "sigmoid-zero-points",
            measured("Sigmoid is fused into the convolution and computed with the wrong zero point", RUNTIME),
            "export --target opencv, where layers sum codes and nothing is fused",
        ),
        Rule(
            "grouped-pixels",
            measured(
                "the newer engine computes some convolutions of single pixels in groups wrong", RUNTIME, "2026-11-29"
            ),
            "export --target opencv, where they have one group, or use cv2.dnn.ENGINE_CLASSIC",
        ),
        Rule("no-clip-on-codes", measured("the classic engine refuses Clip on UINT8 codes", RUNTIME), FLOAT_CLIP),
        Rule(
            "operators",
            measured("MatMulInteger and others are not supported", RUNTIME),
            USE_QDQ,
            {"forbidden": INTEGER_OPERATORS},
        ),
        Rule("domains", measured("operators of com.microsoft are refused", RUNTIME), USE_QDQ, {"allowed": ()}),
        Rule(
            "code-types",
            measured("types of 4 and 2 bits are not supported", RUNTIME),
            "use 8-bit containers: export --target opencv",
            {"allowed": ("UINT8", "INT8", "INT32"), "roles": ("activation", "weight", "bias")},
        ),
    ),
)
