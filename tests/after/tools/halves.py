"""Converters to float16."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx

from .onnx_own import converted
from .registry import tool

POINTS = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "MatMulInteger", "ConvInteger")


def blocked(model: onnx.ModelProto, known: Iterable[str]) -> list[str]:
    """Operators that stay float32: what the converter knows of, and those of quantization."""
    return [*known, *POINTS, *{node.op_type for node in model.graph.node if node.op_type.startswith("QLinear")}]


@tool("onnxconverter-common")
def float16_common(source: Path, target: Path) -> None:
    """onnxconverter_common.float16"""
    from onnxconverter_common import float16

    onnx.save(float16.convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


@tool("onnxconverter-common")
def float16_common_blocked(source: Path, target: Path) -> None:
    """onnxconverter_common.float16, with the quantization operators in op_block_list"""
    from onnxconverter_common import float16

    model = onnx.load(source)
    kept = blocked(model, float16.DEFAULT_OP_BLOCK_LIST)
    onnx.save(float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=kept), target)


@tool("onnxruntime")
def float16_ort(source: Path, target: Path) -> None:
    """onnxruntime.transformers.float16"""
    from onnxruntime.transformers import float16

    onnx.save(float16.convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


@tool("onnxruntime")
def float16_ort_blocked(source: Path, target: Path) -> None:
    """onnxruntime.transformers.float16, with the quantization operators in op_block_list"""
    from onnxruntime.transformers import float16

    model = onnx.load(source)
    kept = blocked(model, float16.DEFAULT_OP_BLOCK_LIST)
    onnx.save(float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=kept), target)


@tool("onnxconverter-common")
def float16_common_opset_21(source: Path, target: Path) -> None:
    """onnxconverter_common.float16, on the file at operator set 21"""
    between = target.with_name("opset-21.onnx")
    converted(source, between, 21)
    float16_common(between, target)


@tool("onnxruntime")
def float16_ort_opset_21(source: Path, target: Path) -> None:
    """onnxruntime.transformers.float16, on the file at operator set 21"""
    between = target.with_name("opset-21.onnx")
    converted(source, between, 21)
    float16_ort(between, target)
