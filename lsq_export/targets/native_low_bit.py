"""Hardware with 4- and 2-bit integers of its own, and the compilers for it: standard operators, codes packed in the
narrowest standard type.

ONNX Runtime 1.32 runs such files in float, and with its default optimization refuses to load those with 2-bit types.
"""

from __future__ import annotations

from dataclasses import replace

from .rule import USE_QDQ, Rule
from .target import Target

_LINEAR = "onnx 1.23.2, QuantizeLinear: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html"
_FOURS = ("UINT8", "INT8", "UINT4", "INT4")
_TWOS = (*_FOURS, "UINT2", "INT2")
_DOMAINS = Rule("domains", f"{_LINEAR} (standard operators)", USE_QDQ, {"allowed": ()})


def _types(allowed: tuple[str, ...], version: int, instead: str) -> Rule:
    settings = {"allowed": (*allowed, "INT32"), "roles": ("activation", "weight", "bias")}
    return Rule("code-types", f"{_LINEAR} (types of operator set {version})", instead, settings)


def _opset(lowest: int) -> Rule:
    return Rule(
        "opset",
        f"{_LINEAR} (its types have been there since operator set {lowest})",
        f"export with operator set {lowest} or newer",
        {"lowest": lowest, "highest": 28},
    )


TARGET = Target(
    name="native-low-bit",
    description="compilers for hardware with native INT4/INT2: opset 21, and 25 with 2-bit types",
    formats=("qdq",),
    opset=17,
    containers=("UINT8", "UINT4", "UINT2", "INT8", "INT4", "INT2"),
    folds=("integer",),
    optimization="disabled",
    versions="ONNX 1.23.2",
    rules=(_DOMAINS, _types(_TWOS, 25, "use a type of 2, 4 or 8 bits")),
)
NATIVE_INT4 = replace(
    TARGET,
    name="native-int4",
    description="compilers for hardware with native INT4: codes of fewer bits in 4, opset 21",
    opset=21,
    containers=("UINT8", "UINT4", "INT8", "INT4"),
    rules=(_DOMAINS, _types(_FOURS, 21, "export --target native-int4"), _opset(21)),
)
NATIVE_INT2 = replace(
    TARGET,
    name="native-int2",
    description="compilers for hardware with native INT4 and INT2: opset 25",
    opset=25,
    rules=(_DOMAINS, _types(_TWOS, 25, "export --target native-int2"), _opset(25)),
)
