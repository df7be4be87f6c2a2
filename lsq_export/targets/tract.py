"""tract, Sonos' inference engine in Rust."""

from __future__ import annotations

from .rule import FIX_BATCH, INTEGER_OPERATORS, USE_QDQ, Rule, measured
from .target import Target

RUNTIME = "tract 0.23.9"

TARGET = Target(
    name="tract",
    description="tract (Rust): qdq files with a fixed batch",
    formats=("qdq",),
    opset=17,
    containers=("UINT8", "INT8"),
    folds=("strided", "integer"),
    optimization="default",
    versions=RUNTIME,
    dialect=("exact-sums",),
    batch=1,
    rules=(
        Rule("fixed-inputs", measured("a symbolic batch fails: Impossible to unify", RUNTIME), FIX_BATCH),
        Rule("domains", measured("QLinearAdd is not implemented", RUNTIME), USE_QDQ, {"allowed": ()}),
        Rule(
            "operators",
            measured("QLinearAdd is not implemented", RUNTIME),
            USE_QDQ,
            {"forbidden": INTEGER_OPERATORS},
        ),
        Rule(
            "code-types",
            measured("types of 4 and 2 bits are unknown", RUNTIME),
            "use 8-bit containers: export --target tract",
            {"allowed": ("UINT8", "INT8", "INT32"), "roles": ("activation", "weight", "bias")},
        ),
    ),
)
