"""Qualcomm's HTP through ONNX Runtime's QNN provider: all in one context, nothing left on the CPU."""

from __future__ import annotations

from .rule import FIX_BATCH, FLOAT_CLIP, INTEGER_OPERATORS, NOT_FOR_ORT, USE_QDQ, Rule, measured
from .target import Target

RUNTIME = "onnxruntime-qnn 2.7.0"
_PROVIDER = "QNN Execution Provider: https://onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html"

TARGET = Target(
    name="qnn-htp",
    description="Qualcomm HTP through ONNX Runtime's QNN provider",
    formats=("qdq",),
    opset=17,
    containers=("UINT8", "INT8"),
    folds=("strided", "integer"),
    optimization="disabled",
    versions=RUNTIME,
    advice=NOT_FOR_ORT,
    dialect=("saturating-pairs", "float-clips"),
    batch=1,
    rules=(
        Rule("no-clip-on-codes", measured("the session fails at a Conv behind a UINT8 Clip", RUNTIME), FLOAT_CLIP),
        Rule(
            "fixed-inputs",
            "onnxruntime, core/providers/qnn/builder/qnn_model.cc (Dynamic shape is not supported yet): "
            "https://github.com/microsoft/onnxruntime",
            FIX_BATCH,
        ),
        Rule(
            "code-types",
            f"{_PROVIDER} (Supported ONNX operators: quantized data types)",
            "use 8-bit containers: export --target qnn-htp",
            {"allowed": ("UINT8", "INT8", "UINT16", "INT16"), "roles": ("activation",)},
        ),
        Rule(
            "operators",
            "onnxruntime-qnn 2.7.0, release notes: QLinearMatMul and QLinearConv alone have been added: "
            "https://github.com/onnxruntime/onnxruntime-qnn/releases/tag/v2.7.0",
            USE_QDQ,
            {"forbidden": tuple(name for name in INTEGER_OPERATORS if name not in ("QLinearConv", "QLinearMatMul"))},
        ),
        Rule("domains", f"{_PROVIDER} (Supported ONNX operators)", USE_QDQ, {"allowed": ()}),
        Rule(
            "quantized-layers",
            measured("a last Gemm without QuantizeLinear behind it runs on the CPU", RUNTIME),
            "quantize the layer's input, weight and output, or accept that it runs on the CPU",
            is_note=True,
        ),
    ),
)
