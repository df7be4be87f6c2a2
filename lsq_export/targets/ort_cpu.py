"""ONNX Runtime's CPU provider: integer kernels for 8-bit containers only, so low-bit codes travel in UINT8 and INT8."""

from __future__ import annotations

from .target import Target

TARGET = Target(
    name="ort-cpu",
    description="ONNX Runtime on CPUs: x86 (AVX2, AVX512-VNNI) and ARM64",
    formats=("qdq", "qoperator"),
    opset=17,
    containers=("UINT8", "INT8"),
    folds=("strided", "integer"),
    optimization="default",
    on_request=("lookup",),
)
