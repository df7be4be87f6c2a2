"""What to do, by tool: the last column of the table."""

from __future__ import annotations

NEVER = "leave it out: a quantized file has nothing to gain of float16"
QDQ = "give it the `qdq` file"
ADVICE = {
    "onnx-tool": f"{QDQ}: operators of other domains lose theirs",
    "sclblonnx": "leave it out: it stamps operator set 12 on every file",
    "ort-basic": "its bits are those of the default session",
    "ort-extended": "integer operators from then on, with the bits of the default session",
    "ort-all": "integer operators, in this processor's layout: for the machine that made it",
    "ort-format-fixed": "as extended",
    "quant-preprocess": f"{QDQ}, or `--skip_symbolic_shape True`; it is for float files",
    "symbolic-shapes": f"{QDQ}: it does not know QLinearSigmoid, QLinearGlobalAveragePool, …",
    "quantize-dynamic": "leave it out: there is nothing to quantize",
    "quantize-static": "leave it out: it quantizes codes again",
    "extensions": f"{QDQ}, or `onnx.compose`: it loses `com.microsoft`",
    "opset-13": "leave it out: onnx has no way from 14 down to 13; `export --opset` writes 17 to 26",
    "external-data-all": "its default threshold (1024 bytes): ONNX Runtime reads no shapes from another file",
    "float16-common": NEVER,
    "float16-common-blocked": NEVER,
    "float16-common-opset-21": NEVER,
    "float16-ort": NEVER,
    "float16-ort-blocked": NEVER,
    "float16-ort-opset-21": NEVER,
}
