"""Deployment targets, one a file.

targets.get("ort-cpu").formats      -> ("qdq", "qoperator")
targets.names()                     -> ["ort-cpu", "onnx-standard", …]
"""

from __future__ import annotations

from calib.errors import QuantizationError, near

from .choice import FORMATS, Choice, adjusted, check_formats, choose
from .litert import TARGET as LITERT
from .native_low_bit import NATIVE_INT2, NATIVE_INT4
from .native_low_bit import TARGET as NATIVE_LOW_BIT
from .onnx_standard import TARGET as ONNX_STANDARD
from .opencv import TARGET as OPENCV
from .openvino import TARGET as OPENVINO
from .openvino_float import TARGET as OPENVINO_FLOAT
from .ort_cpu import TARGET as ORT_CPU
from .portable import TARGET as PORTABLE
from .qnn_htp import TARGET as QNN_HTP
from .qonnx import TARGET as QONNX
from .rule import Rule
from .st_neural_art import TARGET as ST_NEURAL_ART
from .target import Target
from .tensorrt import TARGET as TENSORRT
from .tidl import TARGET as TIDL
from .tract import TARGET as TRACT
from .vitis_xint8 import TARGET as VITIS_XINT8
from .web import TARGET as WEB

__all__ = [
    "FORMATS",
    "NATIVE_LOW_BIT",
    "ORT_CPU",
    "Choice",
    "Rule",
    "Target",
    "adjusted",
    "asked_of",
    "check_formats",
    "choose",
    "everything",
    "get",
    "names",
]

_TARGETS = {
    target.name: target
    for target in (
        ORT_CPU,
        ONNX_STANDARD,
        PORTABLE,
        OPENVINO,
        OPENVINO_FLOAT,
        TRACT,
        OPENCV,
        WEB,
        TENSORRT,
        QNN_HTP,
        ST_NEURAL_ART,
        VITIS_XINT8,
        TIDL,
        LITERT,
        QONNX,
        NATIVE_LOW_BIT,
        NATIVE_INT4,
        NATIVE_INT2,
    )
}


def names() -> list[str]:
    """Names that `get` knows."""
    return list(_TARGETS)


def everything() -> list[Target]:
    """All targets."""
    return list(_TARGETS.values())


def get(name: str) -> Target:
    """The target of that name.

    Errors (QuantizationError): an unknown name.
    """
    if name not in _TARGETS:
        raise QuantizationError(f"target {name!r} is unknown: use {', '.join(_TARGETS)}{near(name, _TARGETS)}")
    return _TARGETS[name]


def asked_of(target: Target) -> dict[str, int]:
    """What `adjusted` changed of a target: "opset", "batch", "quantized_output"."""
    known = get(target.name)
    pairs = (
        ("opset", target.opset, known.opset),
        ("batch", target.batch, known.batch),
        ("quantized_output", target.quantized, known.quantized),
    )
    return {name: value for name, value, usual in pairs if value is not None and value != usual}
