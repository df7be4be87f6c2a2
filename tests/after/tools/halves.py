"""Converters to float16."""

from __future__ import annotations

from pathlib import Path

import onnx

from .onnx_own import converted
from .registry import tool

POINTS = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "MatMulInteger", "ConvInteger")


def default_blocked() -> list[str]:
    from onnxconverter_common.float16 import DEFAULT_OP_BLOCK_LIST

    return list(DEFAULT_OP_BLOCK_LIST)


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
    blocked = [*default_blocked(), *POINTS, *{n.op_type for n in model.graph.node if n.op_type.startswith("QLinear")}]
    onnx.save(float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked), target)


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
    known = [*float16.DEFAULT_OP_BLOCK_LIST, *POINTS]
    blocked = [*known, *{n.op_type for n in model.graph.node if n.op_type.startswith("QLinear")}]
    onnx.save(float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked), target)


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
