"""OpenVINO's CPU plugin in floats: for processors without VNNI, where its integer kernels saturate."""

from __future__ import annotations

from .openvino import RUNTIME, STANDARD_OPERATORS
from .rule import NOT_FOR_ORT, Rule, measured
from .target import Target

EXPORT = "export --target openvino-float"
DAY = "2026-11-29"

TARGET = Target(
    name="openvino-float",
    description="OpenVINO in float32 with INFERENCE_PRECISION_HINT f32: the same integers on any processor, slower",
    formats=("qdq",),
    opset=17,
    containers=("UINT8", "INT8"),
    folds=("strided", "integer"),
    optimization="disabled",
    versions=RUNTIME,
    advice="compile it with INFERENCE_PRECISION_HINT f32: layers sum whole numbers in floats; with VNNI, files of "
    f"export --target openvino give the same integers faster. {NOT_FOR_ORT}",
    dialect=("float-clips", "exact-sums", "round-first"),
    rules=(
        *STANDARD_OPERATORS,
        Rule(
            "code-types",
            measured("types of 2 bits are refused (Unsupported type)", RUNTIME, DAY),
            f"use 8-bit containers: {EXPORT}",
            {"allowed": ("UINT8", "INT8"), "roles": ("activation",)},
        ),
        Rule(
            "no-saturation",
            measured(
                "layers between Q and DQ become integer kernels, wrong by up to 68 codes without VNNI", RUNTIME, DAY
            ),
            f"{EXPORT}, where layers sum codes in floats",
            {"types": ("UINT8", "INT8")},
        ),
        Rule(
            "residual-grid",
            measured("the 8-bit grid of the convolution's branch is dropped: 30 dB off", RUNTIME, DAY),
            f"{EXPORT}, where a product stands between the layer and its grid",
        ),
    ),
)
