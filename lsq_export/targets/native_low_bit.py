"""Hardware with 4- and 2-bit integers of its own, and the compilers for it: standard operators, codes packed in the
narrowest standard type.

ONNX Runtime 1.32 runs such files in float, and with its default optimization refuses to load those with 2-bit types.
"""

from __future__ import annotations

from .target import Target

TARGET = Target(
    name="native-low-bit",
    description="compilers for hardware with native INT4/INT2: opset 21, and 25 with 2-bit types",
    formats=("qdq",),
    opset=17,
    containers=("UINT8", "UINT4", "UINT2", "INT8", "INT4", "INT2"),
    folds=("integer",),
    optimization="disabled",
)
