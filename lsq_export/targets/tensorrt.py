"""NVIDIA TensorRT, explicit quantization: symmetric INT8, and grids on both branches of a residual sum."""

from __future__ import annotations

from .rule import INTEGER_OPERATORS, NOT_FOR_ORT, USE_QDQ, Rule
from .target import Target

_TYPES = (
    "NVIDIA TensorRT 11.0.0, Working with Quantized Types: "
    "https://docs.nvidia.com/deeplearning/tensorrt/11.0.0/inference-library/work-quantized-types.html"
)
_PARSER = "onnx-tensorrt 10.16, onnxOpImporters.cpp, QuantDequantLinearHelper: https://github.com/onnx/onnx-tensorrt"
SYMMETRIC = (
    "quantize symmetrically (quantize_static: ActivationSymmetric=True, QInt8; train with "
    'activation_grid="signed-symmetric")'
)

TARGET = Target(
    name="tensorrt",
    description="NVIDIA TensorRT, explicit INT8: zero points are 0, biases float",
    formats=("qdq",),
    opset=17,
    containers=("INT8",),
    folds=("symmetric",),
    optimization="disabled",
    versions="TensorRT 10.16 and 11.0",
    advice=NOT_FOR_ORT,
    dialect=("int8-weights", "around-zero", "float-clips", "int8-codes", "float-biases"),
    rules=(
        Rule(
            "code-types",
            f"{_PARSER} (UINT8 only on DLA); {_TYPES}",
            SYMMETRIC,
            {"allowed": ("INT8",), "roles": ("activation",)},
        ),
        Rule(
            "code-types",
            f"{_TYPES} (INT4: weights only)",
            "store weights as INT8, or INT4",
            {"allowed": ("INT8", "INT4"), "roles": ("weight",)},
        ),
        Rule("zero-points", f"{_PARSER} (shiftIsAllZeros: Non-zero zero point is not supported)", SYMMETRIC),
        Rule(
            "float-bias",
            f"{_PARSER} (DequantizeLinear of INT32 is not allowed)",
            "keep biases float (quantize_static: QuantizeBias=False)",
        ),
        Rule("operators", f"{_PARSER}: Q/DQ alone is imported", USE_QDQ, {"forbidden": INTEGER_OPERATORS}),
        Rule(
            "domains",
            f"{_PARSER}: operators of other domains are plugins",
            USE_QDQ,
            {"allowed": ("trt",)},
        ),
        Rule(
            "skip-grid",
            f"{_TYPES} (Q/DQ layer-placement recommendations)",
            "quantize the skip branch too, so that the sum is fused into the convolution",
            is_note=True,
        ),
    ),
)
