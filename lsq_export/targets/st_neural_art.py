"""ST's Neural-ART NPU (STM32N6) through ST Edge AI Core."""

from __future__ import annotations

from .rule import FIX_BATCH, FLOAT_CLIP, INTEGER_OPERATORS, NOT_FOR_ORT, USE_QDQ, Rule
from .target import Target

_NPU = (
    "ST Edge AI Core 3.0.0, ST Neural-ART NPU supported operators and limitations r1.2: "
    "https://stedgeai-dc.st.com/assets/embedded-docs/stneuralart_operator_support.html"
)
_ONNX = "ST Edge AI Core 3.0.0, ONNX toolbox support: https://stedgeai-dc.st.com/assets/embedded-docs/supported_ops_onnx.html"

TARGET = Target(
    name="st-neural-art",
    description="ST Neural-ART NPU (STM32N6): QDQ, signed symmetric weights, signed activations",
    formats=("qdq",),
    opset=17,
    containers=("INT8",),
    folds=("strided", "integer"),
    optimization="disabled",
    versions="ST Edge AI Core 3.0.0",
    advice=NOT_FOR_ORT,
    dialect=("int8-weights", "float-clips", "int8-codes"),
    batch=1,
    rules=(
        Rule(
            "code-types",
            f"{_NPU} (8b/8b, ss/sa per-channel: signed asymmetric activations)",
            "export --target st-neural-art stores the same codes as INT8",
            {"allowed": ("INT8",), "roles": ("activation",)},
        ),
        Rule(
            "code-types",
            f"{_NPU} (signed symmetric weights; 4-bit weights since 3.0.0)",
            "export --target st-neural-art stores weights as INT8",
            {"allowed": ("INT8", "INT4"), "roles": ("weight",)},
        ),
        Rule(
            "zero-points",
            f"{_NPU} (signed symmetric weights)",
            "quantize weights symmetrically",
            {"roles": ("weight",)},
        ),
        Rule("fixed-inputs", _ONNX, FIX_BATCH),
        Rule("batch", _ONNX, FIX_BATCH, {"size": 1}),
        Rule(
            "opset", f"{_ONNX} (operator sets 7 to 20 of ONNX 1.15)", "export --opset 17", {"lowest": 7, "highest": 20}
        ),
        Rule("operators", f"{_NPU} (tensor-oriented QDQ)", USE_QDQ, {"forbidden": INTEGER_OPERATORS}),
        Rule("domains", f"{_NPU} (tensor-oriented QDQ)", USE_QDQ, {"allowed": ()}),
        Rule("no-clip-on-codes", f"{_ONNX} (Clip: float32)", FLOAT_CLIP),
        Rule(
            "quantized-layers",
            f"{_NPU} (layers in float run on the CPU)",
            "quantize the layer's input, weight and output, or accept that it runs on the CPU",
            is_note=True,
        ),
    ),
)
