"""Rules of several operators in a row, which single runtimes fuse and then compute otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from .grids import LAYERS, source_of, weight_of
from .onnx_file import OnnxFile
from .predicates import Place, predicate
from .scope import Scope, input_name, is_value_of_codes, label

FUSED = frozenset(("Conv", "ConvTranspose"))
WIDTHS = {"UINT8": 8, "INT8": 8, "UINT4": 4, "INT4": 4, "UINT2": 2, "INT2": 2, "UINT16": 16, "INT16": 16}


@predicate
def residual_grid(file: OnnxFile) -> Iterator[Place]:
    """An Add of two computed tensors reads no grid that only a convolution is on: it is dropped."""
    for scope in file.scopes:
        for node in scope.nodes:
            if node.op_type != "Add" or len(node.input) != 2:
                continue
            made = [scope.producer(name) for name in node.input]
            if any(maker is None for maker in made) or any(scope.constant(name) is not None for name in node.input):
                continue
            for name in node.input:
                if _is_of_convolution(scope, name):
                    yield label(node), f"reads {name}, codes of a convolution that nothing else reads"


def _is_of_convolution(scope: Scope, name: str) -> bool:
    """DequantizeLinear <- (Clip <-) QuantizeLinear <- (Relu, Clip <-) Conv, each read once."""
    expected = ("DequantizeLinear", "QuantizeLinear")
    for op_type in expected:
        node = scope.producer(name)
        if op_type == "QuantizeLinear" and node is not None and node.op_type == "Clip" and scope.is_read_once(name):
            name = input_name(node, 0)
            node = scope.producer(name)
        if node is None or node.op_type != op_type or not scope.is_read_once(name):
            return False
        name = input_name(node, 0)
    node = scope.producer(name)
    return node is not None and node.op_type in FUSED and scope.is_read_once(name)


@predicate
def merged_pairs(file: OnnxFile) -> Iterator[Place]:
    """No two pairs of QuantizeLinear and DequantizeLinear on different grids follow each other: they are merged."""
    for scope in file.scopes:
        for node in scope.nodes:
            second = _pair(scope, node)
            middle = scope.producer(input_name(second, 0)) if second is not None else None
            if middle is None or not middle.output or not scope.is_read_once(middle.output[0]):
                continue
            if (first := _pair(scope, middle)) is not None and not _same_grid(scope, first, node):
                yield label(node), f"and {label(first)} are two pairs in a row with nothing between"


def _pair(scope: Scope, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """The QuantizeLinear whose 8-bit codes this DequantizeLinear alone reads, on the same grid."""
    if node.op_type != "DequantizeLinear" or not scope.is_read_once(input_name(node, 0)):
        return None
    quantize = scope.producer(input_name(node, 0))
    if quantize is None or quantize.op_type != "QuantizeLinear" or not _same_grid(scope, quantize, node):
        return None
    return quantize if scope.type(input_name(node, 0)) in ("UINT8", "INT8") else None


def _same_grid(scope: Scope, first: onnx.NodeProto, second: onnx.NodeProto) -> bool:
    for place in (1, 2):
        a, b = (scope.array(input_name(node, place)) for node in (first, second))
        if a is None or b is None or a.size != 1 or b.size != 1 or not np.array_equal(a.reshape(-1), b.reshape(-1)):
            return False
    return True


@predicate
def sigmoid_zero_points(file: OnnxFile) -> Iterator[Place]:
    """A Sigmoid behind the grid of a convolution has the same zero point as that grid."""
    for scope in file.scopes:
        for node in scope.nodes:
            if node.op_type != "Sigmoid" or not node.output:
                continue
            before, after = _quantize_before(scope, node), scope.readers(node.output[0])
            if before is None or len(after) != 1 or after[0].op_type != "QuantizeLinear":
                continue
            layer = scope.producer(input_name(before, 0))
            points = [scope.array(input_name(grid, 2)) for grid in (before, after[0])]
            if layer is None or layer.op_type not in LAYERS or any(p is None or p.size != 1 for p in points):
                continue
            first, last = (int(p.reshape(-1)[0]) for p in points if p is not None)
            if first != last:
                yield label(node), f"is between the zero points {first} and {last}, behind {label(layer)}"


def _quantize_before(scope: Scope, node: onnx.NodeProto) -> onnx.NodeProto | None:
    dequantize = scope.producer(input_name(node, 0))
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    quantize = scope.producer(input_name(dequantize, 0))
    return quantize if quantize is not None and quantize.op_type == "QuantizeLinear" else None


@predicate
def equal_widths(file: OnnxFile) -> Iterator[Place]:
    """Codes of fewer than 8 bits have weights of as many, and weights of 2 bits have such codes."""
    for scope in file.scopes:
        for node in scope.nodes:
            if node.op_type not in LAYERS or not node.output:
                continue
            makers = source_of(scope, node), weight_of(scope, node)
            kinds = [scope.type(input_name(maker, 0)) if maker is not None else None for maker in makers]
            widths = [WIDTHS.get(kind or "") for kind in kinds]
            if None in widths or widths[0] == widths[1]:
                continue
            if min(width for width in widths if width) <= 2 or (widths[0] or 8) < 8:
                yield label(node), f"has codes of the type {kinds[0]} with weights of the type {kinds[1]}"


@predicate
def skip_grid(file: OnnxFile) -> Iterator[Place]:
    """Both operands of an Add of computed tensors are quantized."""
    for scope in file.scopes:
        for node in scope.nodes:
            if node.op_type != "Add" or len(node.input) != 2 or any(scope.constant(n) is not None for n in node.input):
                continue
            found = [is_value_of_codes(scope, name) for name in node.input]
            if any(found) and not all(found):
                yield label(node), f"reads {node.input[found.index(False)]}, which has no grid, beside one that has"
