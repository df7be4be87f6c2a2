"""TI's TIDL (C7x DSP with MMA), prequantized QDQ models."""

from __future__ import annotations

from .rule import FIX_BATCH, FLOAT_CLIP, INTEGER_OPERATORS, NOT_FOR_ORT, USE_QDQ, Rule
from .target import Target

_TIDL = (
    "edgeai-tidl-tools b3a7c2c, docs/quantization.md, TIDL Layer Quantization Restrictions: "
    "https://github.com/TexasInstruments/edgeai-tidl-tools/blob/b3a7c2c5d380c12051f63c83f89f936fa9893fad/docs/quantization.md"
)

TARGET = Target(
    name="tidl",
    description="TI TIDL: prequantized QDQ, symmetric weights and network input",
    formats=("qdq",),
    opset=17,
    containers=("UINT8", "INT8"),
    folds=("strided", "integer"),
    optimization="disabled",
    versions="edgeai-tidl-tools, 2025",
    advice=NOT_FOR_ORT,
    dialect=("int8-weights", "float-clips"),
    batch=1,
    rules=(
        Rule(
            "zero-points",
            f"{_TIDL} (weights: symmetric, for each channel)",
            "quantize weights symmetrically: export --target tidl stores them as INT8",
            {"roles": ("weight", "bias")},
        ),
        Rule(
            "zero-points",
            f"{_TIDL} (the input to the network is quantized symmetrically)",
            "quantize the input symmetrically, as INT8 with the zero point 0",
            {"roles": ("input",)},
        ),
        Rule(
            "code-types",
            f"{_TIDL} (8-bit)",
            "use 8-bit containers",
            {"allowed": ("UINT8", "INT8", "UINT16", "INT16"), "roles": ("activation", "weight")},
        ),
        Rule("operators", f"{_TIDL} (ONNX QDQ models)", USE_QDQ, {"forbidden": INTEGER_OPERATORS}),
        Rule("domains", f"{_TIDL} (ONNX QDQ models)", USE_QDQ, {"allowed": ()}),
        Rule("fixed-inputs", f"{_TIDL}; docs/io_tensors.md of the same commit", FIX_BATCH),
        Rule("no-clip-on-codes", f"{_TIDL} (Clip is an operator of activations)", FLOAT_CLIP),
        Rule(
            "quantized-layers",
            f"{_TIDL} (requires QDQ nodes: yes)",
            "put Q/DQ behind the layer, perhaps after its Relu",
            is_note=True,
        ),
    ),
)
