"""AMD's NPUs for convolutional networks (Ryzen AI, Vitis AI): XINT8, scales that are powers of two."""

from __future__ import annotations

from .rule import INTEGER_OPERATORS, USE_QDQ, Rule, measured
from .target import Target

_XINT8 = "AMD Quark 0.13 for ONNX, Power-of-Two Scales (XINT8) Quantization: https://quark.docs.amd.com"
QUARK = "quantize with AMD Quark's XINT8 configuration; scales that training learned are no powers of two"

TARGET = Target(
    name="vitis-xint8",
    description="AMD NPUs for convolutional networks: scales are powers of two, one for each tensor",
    formats=("qdq",),
    opset=17,
    containers=("UINT8", "INT8"),
    folds=("integer",),
    optimization="disabled",
    versions="AMD Quark 0.13.0, Vitis AI 6.2",
    batch=1,
    rules=(
        Rule("power-of-two-scales", _XINT8, QUARK),
        Rule(
            "zero-points",
            f"{_XINT8} (symmetric); " + measured("UINT8 activations have the zero point 128", "AMD Quark 0.13.0"),
            QUARK,
            {"of_types": {"UINT8": 128}},
        ),
        Rule("one-scale", measured("one scale for each tensor", "AMD Quark 0.13.0"), QUARK),
        Rule(
            "code-types",
            f"{_XINT8} (INT8 activations, weights and biases)",
            QUARK,
            {"allowed": ("UINT8", "INT8"), "roles": ("activation", "weight", "bias")},
        ),
        Rule("operators", f"{_XINT8} (QuantFormat.QDQ)", USE_QDQ, {"forbidden": INTEGER_OPERATORS}),
        Rule("domains", f"{_XINT8} (QuantFormat.QDQ)", USE_QDQ, {"allowed": ()}),
    ),
)
