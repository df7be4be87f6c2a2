"""Rules of convolutions and matrix products: weights, biases, sums, and what is left in float."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx

from calib.folding.saturation import saturating
from lsq_export.inspection.onnx_read import attribute

from .grids import LAYERS, codes_of, is_constant, source_of, weight_of
from .onnx_file import OnnxFile
from .predicates import Place, predicate
from .scope import MOVES, Scope, input_name, is_value_of_codes, label

# Runtimes fuse them into the layer before.
POINTWISE = frozenset({"Relu", "Clip", "LeakyRelu", "Add", "BatchNormalization"})
CLOSE = 1e-5  # relative: what float32 leaves of a product of two scales


def _layers(file: OnnxFile) -> Iterator[tuple[Scope, onnx.NodeProto]]:
    for scope in file.scopes:
        for node in scope.nodes:
            if node.op_type in LAYERS and node.domain in ("", "ai.onnx") and node.output:
                yield scope, node


@predicate
def weight_types(file: OnnxFile, allowed: Collection[str], layers: Collection[str] = LAYERS) -> Iterator[Place]:
    """Weights of these layers, where they are quantized, have codes of one of these types."""
    for scope, node in _layers(file):
        weight = weight_of(scope, node) if node.op_type in layers else None
        kind = scope.type(input_name(weight, 0)) if weight is not None else None
        if kind is not None and kind not in allowed:
            yield label(node), f"has weights of the type {kind}"


@predicate
def float_bias(file: OnnxFile) -> Iterator[Place]:
    """Biases are float, without a DequantizeLinear."""
    for scope, node in _layers(file):
        maker = scope.producer(input_name(node, 2))
        if maker is not None and maker.op_type == "DequantizeLinear":
            yield label(node), f"has a quantized bias ({scope.type(input_name(maker, 0))})"


@predicate
def quantized_bias(file: OnnxFile) -> Iterator[Place]:
    """Quantized layers have quantized biases: none that a runtime would round itself."""
    for scope, node in _layers(file):
        bias = input_name(node, 2)
        quantized = source_of(scope, node) is not None and weight_of(scope, node) is not None
        if bias and quantized and scope.constant(bias) is not None and scope.type(bias) in ("FLOAT", "FLOAT16"):
            yield label(node), "has a float bias between quantized operands"


@predicate
def bias_scale(file: OnnxFile) -> Iterator[Place]:
    """The scale of a quantized bias is the product of those of input and weight."""
    for scope, node in _layers(file):
        bias, found = scope.producer(input_name(node, 2)), []
        for maker in (bias, source_of(scope, node), weight_of(scope, node)):
            is_grid = maker is not None and maker.op_type == "DequantizeLinear"
            array = scope.array(input_name(maker, 1)) if is_grid and maker is not None else None
            found.append(None if array is None else array.astype(np.float64).reshape(-1))
        own, x, w = found
        if own is None or x is None or w is None or x.size != 1 or (w.size not in (1, own.size) and own.size != 1):
            continue
        if not np.allclose(own, x * w, rtol=CLOSE, atol=0):
            yield label(node), f"has the bias scale {own[0]:.6g}, and the product of the others is {(x * w)[0]:.6g}"


@predicate
def no_saturation(file: OnnxFile, types: Collection[str] = ("UINT8",)) -> Iterator[Place]:
    """No two products of codes can leave int16 where a kernel adds them in it (calib.folding.saturation).

    types: of activations for which there are such kernels; codes of INT8 are 128 more there.
    """
    for node, codes, largest in _integer_layers(file, types):
        row = saturating(codes, largest)
        if row is not None:
            yield label(node), f"can saturate: two weights of channel {row} times codes up to {largest} leave int16"


def _integer_layers(file: OnnxFile, types: Collection[str]) -> Iterator[tuple[onnx.NodeProto, np.ndarray, int]]:
    """Layers of INT8 weights on such codes: (node, weights [rows, products], the largest code)."""
    for scope, node in _layers(file):
        source, weight = source_of(scope, node), weight_of(scope, node)
        if source is None or weight is None or scope.type(input_name(source, 0)) not in types:
            continue
        if scope.type(input_name(weight, 0)) == "INT8" and (codes := codes_of(scope, weight)) is not None:
            yield node, _rows(node, codes), _largest(scope, input_name(source, 0), input_name(source, 2))
    for scope in file.scopes:
        for node in scope.nodes:
            if node.op_type != "QLinearConv" or scope.type(input_name(node, 0)) not in types:
                continue
            stored = scope.array(input_name(node, 3))
            if stored is not None and stored.dtype == np.int8:
                yield (
                    node,
                    _rows(node, stored),
                    _largest(scope, input_name(node, 0), input_name(node, 2)),
                )


def _rows(node: onnx.NodeProto, codes: np.ndarray) -> np.ndarray:
    """[output channels, products of a sum]. Of a depthwise convolution each product is a sum of its own."""
    if node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0)):
        codes = np.moveaxis(codes, -1, 0) if codes.ndim else codes
    is_depthwise = "Conv" in node.op_type and codes.ndim > 2 and codes.shape[1] == 1
    if is_depthwise or node.op_type == "ConvTranspose":
        return codes.reshape(-1, 1)
    return codes.reshape(len(codes), -1) if codes.ndim > 1 else codes.reshape(1, -1)


def _largest(scope: Scope, name: str, zero_point: str) -> int:
    """The largest unsigned code that a layer can meet: of a Clip before it, or of the type.

    Convolutions pad with the zero point.
    """
    if scope.type(name) != "UINT8":
        return 255
    padding = scope.array(zero_point)
    least = int(padding.max()) if padding is not None and padding.size else 0
    for _ in range(len(scope.nodes) + 1):
        node = scope.producer(name)
        if node is None or node.op_type not in MOVES | {"Clip"} or node.op_type == "Concat":
            return 255
        bound = scope.array(input_name(node, 2)) if node.op_type == "Clip" else None
        if bound is not None and bound.size == 1:
            return max(int(bound.reshape(-1)[0]), least)
        name = input_name(node, 0)
    return 255


@predicate
def quantized_layers(file: OnnxFile) -> Iterator[Place]:
    """Each convolution and matrix product reads DequantizeLinear, and QuantizeLinear reads it."""
    for scope, node in _layers(file):
        missing = [
            what
            for what, found in (
                ("input", is_value_of_codes(scope, input_name(node, 0))),
                ("weight", is_value_of_codes(scope, input_name(node, 1))),
                ("output", _is_requantized(scope, node.output[0])),
            )
            if not found
        ]
        if missing:
            yield label(node), f"is float: no grid at its {' and '.join(missing)}"


def _is_requantized(scope: Scope, name: str) -> bool:
    """All that reads it is a QuantizeLinear, perhaps behind an operator that is fused."""
    for _ in range(len(scope.nodes) + 1):
        readers = scope.readers(name)
        if readers and name not in scope.outputs and all(node.op_type == "QuantizeLinear" for node in readers):
            return True
        if len(readers) != 1 or readers[0].op_type not in POINTWISE | MOVES or not readers[0].output:
            return False
        name = readers[0].output[0]
    return False


@predicate
def float_weights(file: OnnxFile) -> Iterator[Place]:
    """No layer between DequantizeLinear and QuantizeLinear has a float weight that a runtime would quantize itself."""
    for scope, node in _layers(file):
        name = input_name(node, 1)
        is_float = is_constant(scope, name) and not is_value_of_codes(scope, name)
        if is_float and is_value_of_codes(scope, input_name(node, 0)) and _is_requantized(scope, node.output[0]):
            yield label(node), "has a float weight between quantized tensors"


@predicate
def strided_pointwise(file: OnnxFile) -> Iterator[Place]:
    """No convolution of single pixels has strides."""
    for scope, node in _layers(file):
        strides = attribute(node, "strides", [])
        kernel = attribute(node, "kernel_shape", None) or _kernel(scope, node)
        if node.op_type == "Conv" and kernel and set(kernel) == {1} and any(s != 1 for s in strides or []):
            yield label(node), f"has strides of {' × '.join(map(str, strides))} and a kernel of 1"


@predicate
def grouped_pixels(file: OnnxFile) -> Iterator[Place]:
    """No convolution of single pixels has groups of several channels."""
    for scope, node in _layers(file):
        groups, shape = attribute(node, "group", 1), _weight_shape(scope, node)
        if node.op_type == "Conv" and groups > 1 and shape[2:] and set(shape[2:]) == {1} and shape[1] > 1:
            yield label(node), f"has {groups} groups of {shape[1]} channels and a kernel of 1"


def _kernel(scope: Scope, node: onnx.NodeProto) -> list[int]:
    return _weight_shape(scope, node)[2:]


def _weight_shape(scope: Scope, node: onnx.NodeProto) -> list[int]:
    """[C_out, C_in/g, …]; [] of a weight that is no constant."""
    weight = weight_of(scope, node)
    tensor = scope.constant(input_name(weight, 0) if weight is not None else input_name(node, 1))
    return list(tensor.dims) if tensor is not None else []
