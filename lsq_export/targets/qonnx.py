"""qonnx, the front end of FINN, hls4ml and chisel4ml: its executor, and its conversion from QDQ with Clip to Quant."""

from __future__ import annotations

from .rule import Rule, measured
from .target import Target

RUNTIME = "qonnx 1.0.0"

TARGET = Target(
    name="qonnx",
    description="qonnx's executor; QCDQToQuant for FINN and hls4ml takes scales for whole tensors alone",
    formats=("qdq",),
    opset=17,
    containers=("UINT8", "INT8"),
    folds=("integer", "strided"),
    optimization="default",
    versions=RUNTIME,
    batch=1,
    rules=(
        Rule(
            "domains",
            measured("its executor runs standard operators, those of ONNX Runtime and its own", RUNTIME),
            "export --format qdq",
            {"allowed": ("com.microsoft", "qonnx.custom_op.general", "qonnx.custom_op.channels_last", "onnx.brevitas")},
        ),
        Rule(
            "code-types",
            measured("its types end at operator set 17's: UINT8, INT8, INT32", RUNTIME),
            "use 8-bit containers: export --target qonnx",
            {"allowed": ("UINT8", "INT8", "INT32"), "roles": ("activation", "weight", "bias")},
        ),
        Rule(
            "one-scale",
            measured("QCDQToQuant raises on weights with scales per channel, or is silently wrong", RUNTIME),
            'train with weight_granularity="tensor" and without batch norms, or only run its executor',
            {"roles": ("weight",)},
            is_note=True,
        ),
    ),
)
