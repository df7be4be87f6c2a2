"""OpenVINO's CPU plugin: it drops a grid before residual sums, and quantizes again what UINT8 weights multiply."""

from __future__ import annotations

from .rule import INTEGER_OPERATORS, NOT_FOR_ORT, USE_QDQ, Rule, measured
from .target import Target

RUNTIME = "OpenVINO 2026.4.1"
EXPORT = "export --target openvino"
STANDARD_OPERATORS = (
    Rule(
        "operators",
        measured("QLinearConv with scales per channel is refused, or silently wrong; others have no rule", RUNTIME),
        USE_QDQ,
        {"forbidden": INTEGER_OPERATORS},
    ),
    Rule("domains", measured("operators of com.microsoft on codes have no rule", RUNTIME), USE_QDQ, {"allowed": ()}),
)

TARGET = Target(
    name="openvino",
    description="OpenVINO on CPUs; with INFERENCE_PRECISION_HINT f32 the integers are those of ONNX Runtime",
    formats=("qdq",),
    opset=17,
    containers=("UINT8", "INT8"),
    folds=("strided", "integer"),
    optimization="disabled",
    versions=RUNTIME,
    advice="compile it with INFERENCE_PRECISION_HINT f32: by default some processors compute floats in bfloat16; "
    "without VNNI, weights of 8 bits may saturate (lsq-export lint says where): export --target openvino-float there. "
    f"{NOT_FOR_ORT}",
    dialect=("int8-weights", "keep-branches", "split-strides"),
    rules=(
        *STANDARD_OPERATORS,
        Rule(
            "code-types",
            measured("types of 2 bits are refused (Unsupported type); of 4 bits run in float", RUNTIME),
            "use 8-bit containers: export --target openvino",
            {"allowed": ("UINT8", "INT8"), "roles": ("activation",)},
        ),
        Rule(
            "residual-grid",
            measured("the 8-bit grid of the convolution's branch is dropped: 30 dB off", RUNTIME),
            f"a Max with the lowest value of its grid, on the branch, keeps it: {EXPORT}",
        ),
        Rule(
            "weight-types",
            measured("with UINT8 weights its input is quantized again, in groups of 32: 50 dB off", RUNTIME),
            f"store weights as INT8: {EXPORT}",
            {"allowed": ("INT8",), "layers": ("Gemm", "MatMul")},
        ),
        Rule(
            "weight-types",
            measured("with UINT8 weights it is no integer kernel, and bfloat16 at the default precision", RUNTIME),
            f"INFERENCE_PRECISION_HINT f32, or INT8: {EXPORT} does it but for layers with a weight of +128",
            {"allowed": ("INT8",), "layers": ("Conv", "ConvTranspose")},
            is_note=True,
        ),
        Rule(
            "strided-pointwise",
            measured("such a convolution is no integer kernel, and bfloat16 at the default precision", RUNTIME),
            f"a MaxPool 1×1 with the strides before it: {EXPORT}; or INFERENCE_PRECISION_HINT f32",
            is_note=True,
        ),
        Rule(
            "no-saturation",
            "OpenVINO, Saturation Issue Workaround: https://docs.openvino.ai/latest/pot_saturation_issue.html; "
            + measured("8-bit weights of other tools are 12 to 57 dB off without VNNI", RUNTIME, "2026-11-28"),
            "it is right with VNNI; on older processors export --target openvino-float, or train weights of 7 bits, "
            "those of the first and the last layer too",
            {"types": ("UINT8", "INT8")},
            is_note=True,
        ),
    ),
)
