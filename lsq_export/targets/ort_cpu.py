"""ONNX Runtime's CPU provider: integer kernels for 8-bit containers only, so low-bit codes travel in UINT8 and INT8."""

from __future__ import annotations

from .rule import Rule, measured
from .target import Target

RUNTIME = "ONNX Runtime 1.32.0"
TODAY = "2026-11-28"
CONVERTED = "2026-11-30"
_QUANTIZATION = "onnxruntime.ai, Quantize ONNX models: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html"

MERGED = Rule(
    "merged-pairs",
    measured("DoubleQDQPairsRemover makes one pair of two, on a grid of 256 codes", RUNTIME, TODAY),
    "put a Clip on the codes between them: export --target ort-cpu does",
)
UNCONVERTED = "take the file from before the conversion to float16, which has nothing to gain of a quantized file"
HALF_SCALES = (
    Rule(
        "scale-types",
        measured(
            "scales of float16 do not load below operator set 19, in QLinear operators, and below 23 where "
            "QuantizeLinear has float32 values",
            RUNTIME,
            CONVERTED,
        ),
        UNCONVERTED,
        {"half_from": 19, "mixed_from": 23},
    ),
    Rule(
        "float16-scales",
        measured(
            "where a converter rounded the scales, codes differ; scales that were float16 from the start are right",
            RUNTIME,
            CONVERTED,
        ),
        UNCONVERTED,
        is_note=True,
    ),
)
TARGET = Target(
    name="ort-cpu",
    description="ONNX Runtime on CPUs: x86 (AVX2, AVX512-VNNI) and ARM64",
    formats=("qdq", "qoperator"),
    opset=17,
    containers=("UINT8", "INT8"),
    folds=("strided", "integer"),
    optimization="default",
    dialect=("bias-zero-points",),
    on_request=("lookup",),
    versions=RUNTIME,
    rules=(
        Rule(
            "domains",
            "onnxruntime 1.32.0, docs/ContribOperators.md: https://github.com/microsoft/onnxruntime",
            "its custom operators have to be registered: look for the library of the tool that wrote the file",
            {"allowed": ("ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental")},
        ),
        Rule(
            "opset",
            measured("QuantizeLinear runs up to operator set 27; 28 has no kernels", RUNTIME),
            "convert it with onnx.version_converter, or export it with an older operator set",
            {"lowest": 7, "highest": 27},
        ),
        Rule(
            "code-types",
            measured("codes of 2 bits do not load at the default optimization", RUNTIME),
            "use 8-bit containers: export --target ort-cpu",
            {
                "allowed": ("UINT8", "INT8", "UINT16", "INT16", "UINT4", "INT4", "INT32"),
                "roles": ("activation", "weight", "bias"),
            },
        ),
        Rule(
            "equal-widths",
            measured("UINT4 activations with INT8 weights are an invalid graph at the default optimization", RUNTIME),
            "use 8-bit containers (export --target ort-cpu), or load it with ORT_ENABLE_BASIC",
        ),
        MERGED,
        *HALF_SCALES,
        Rule(
            "padded-ceil-average",
            measured("QLinearAveragePool divides by the whole kernel at the edge, up to 139 codes off", RUNTIME),
            "pad before the pool, or leave one of the two out",
        ),
        Rule(
            "no-saturation",
            f"{_QUANTIZATION} (U8S8 on AVX2 and AVX512); "
            + measured("8-bit weights of other tools are 12 to 21 dB off on AVX2, with INT8 codes too", RUNTIME, TODAY),
            "it is right with VNNI and on ARM64; elsewhere weights of 7 bits (reduce_range), or UINT8 weights",
            {"types": ("UINT8", "INT8")},
            is_note=True,
        ),
        Rule(
            "bias-scale",
            measured("the layer is not fused then and runs in float; the result is right", RUNTIME),
            "give the bias the scale of the input times that of the weight",
            is_note=True,
        ),
        Rule(
            "quantized-bias",
            measured("WeightBiasQuantization rounds a float bias to INT32 at the scale of the product", RUNTIME),
            "where outputs have to be those of the tool, load with disabled_optimizers=['WeightBiasQuantization']",
            is_note=True,
        ),
        Rule(
            "float-weights",
            measured("WeightBiasQuantization rounds a float weight to INT8 on one scale for the tensor", RUNTIME),
            "store the weight as codes, or load with disabled_optimizers=['WeightBiasQuantization']",
            is_note=True,
        ),
    ),
)
