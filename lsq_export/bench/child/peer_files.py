"""ONNX Runtime's own quantization of a float model: quant_pre_process, then quantize_static in both of its formats.

    {"float": path, "inputs": npz file (x: [N, …]), "qdq": path to write, "qoperator": path to write}
    -> {"failed": {format: why}}

"failed" names each format that cannot be made, or that ONNX Runtime then cannot load or run. Where all fails, the
answer is {"error": why}.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

FORMATS = {"qdq": QuantFormat.QDQ, "qoperator": QuantFormat.QOperator}


class Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]  # onnxruntime has no types
    """Calibration images one by one: x, float32 [N, …]."""

    def __init__(self, name: str, x: np.ndarray) -> None:
        self._feeds = iter([{name: x[i : i + 1]} for i in range(len(x))])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next feed, None at the end."""
        return next(self._feeds, None)


def quantize(request: dict[str, Any]) -> dict[str, str]:
    """Write both files. Returns {format: why} for those that do not work."""
    quant_pre_process(request["float"], "prepared.onnx")
    name = ort.InferenceSession("prepared.onnx", providers=["CPUExecutionProvider"]).get_inputs()[0].name
    with np.load(request["inputs"]) as file:
        x = file["x"]
    failed = {}
    for key, kind in FORMATS.items():
        try:
            types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
            quantize_static(
                "prepared.onnx", request[key], Reader(name, x), quant_format=kind, per_channel=True, **types
            )
            ort.InferenceSession(request[key], providers=["CPUExecutionProvider"]).run(None, {name: x[:1]})
        except Exception as error:  # whatever it is, the other format may work
            failed[key] = f"{type(error).__name__}: {error}"
    return failed


def main() -> None:
    """Answer one request."""
    logging.disable(logging.CRITICAL)
    ort.set_default_logger_severity(4)
    try:
        answer: dict[str, object] = {"failed": quantize(json.load(sys.stdin))}
    except Exception as error:  # the parent makes one line of it
        answer = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


if __name__ == "__main__":
    main()
