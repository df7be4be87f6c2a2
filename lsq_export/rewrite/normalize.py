"""normalize: what torch's exporter writes in several ways gets one form.

    Identity(x), Dropout(x)                          =>  x
    ReduceMean(x, axes = H, W)                       =>  GlobalAveragePool(x)       (and Flatten where the axes are dropped)
    AveragePool(x), kernel = the whole of H × W      =>  GlobalAveragePool(x)
    Max(x, c), Min(x, c)                             =>  Clip(x, c), Clip(x, , c)
    Gemm(x, W, b) with alpha, beta, transB = 0       =>  Gemm(x, W', b', transB = 1)

All of these are exact. Anything that no later stage knows is refused here, by name.
"""

from __future__ import annotations

import onnx_ir as ir

from calib.errors import QuantizationError

from ..graph import array_of, attribute, clean, constant_of, insert, is_marker, is_op, replace

LINEAR = ("Conv", "Gemm")
CODE_PRESERVING = ("MaxPool", "Reshape", "Flatten", "Transpose")  # they move codes or take the largest: any grid goes through unchanged
CLAMPS = ("Relu", "Clip")
ARITHMETIC = ("Add", "AveragePool", "GlobalAveragePool", "Concat")
KNOWN = (*LINEAR, *CODE_PRESERVING, *CLAMPS, *ARITHMETIC, "BatchNormalization")


def normalize(model: ir.Model) -> None:
    graph = model.graph
    for node in list(graph):
        if is_op(node, "Identity", "Dropout"):
            assert node.inputs[0] is not None
            replace(node.outputs[0], node.inputs[0])
        elif is_op(node, "ReduceMean"):
            _global_average(graph, node)
        elif is_op(node, "AveragePool"):
            _whole_average(node)
        elif is_op(node, "Max", "Min"):
            _clip(node)
        elif is_op(node, "Gemm"):
            _plain_gemm(graph, node)
    clean(model)
    for node in graph:
        _check(node)


def _check(node: ir.Node) -> None:
    if is_marker(node):
        return
    if not is_op(node, *KNOWN):
        kind = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        raise QuantizationError(f"{node.name}: the operator {kind} has no integer form here; supported are {', '.join(sorted(KNOWN))}")
    if is_op(node, "Conv") and (node.inputs[1] is None or len(node.inputs[1].shape or ()) != 4):
        raise QuantizationError(f"{node.name}: only two-dimensional convolutions can be quantized")
    if is_op(node, "Conv", "MaxPool", "AveragePool") and attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise QuantizationError(f"{node.name}: auto_pad={attribute(node, 'auto_pad')} is not supported; give the pads as numbers")
    if is_op(node, "Clip"):
        for bound in node.inputs[1:]:
            if bound is not None and array_of(bound) is None:
                raise QuantizationError(f"{node.name}: the bounds of a clamp must be constants")


def _global_average(graph: ir.Graph, node: ir.Node) -> None:
    x, axes = node.inputs[0], array_of(node.inputs[1]) if len(node.inputs) > 1 else None
    rank = len(x.shape) if x is not None and x.shape is not None else 0
    if rank != 4 or axes is None or sorted(int(a) % rank for a in axes) != [2, 3]:
        raise QuantizationError(
            f"{node.name}: a mean over the axes {None if axes is None else axes.tolist()} has no integer form here; only over H and W"
        )
    pooled = insert(node, "GlobalAveragePool", [x], f"{node.outputs[0].name}_pool")
    if not attribute(node, "keepdims", 1):
        pooled = insert(node, "Flatten", [pooled], f"{node.outputs[0].name}_flat", axis=1)
    pooled.shape = node.outputs[0].shape
    _take_place(node, pooled)


def _whole_average(node: ir.Node) -> None:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is not None and list(shape[2:]) == list(attribute(node, "kernel_shape")) and not any(attribute(node, "pads", [0])):
        pooled = insert(node, "GlobalAveragePool", [node.inputs[0]], f"{node.outputs[0].name}_pool", shape=node.outputs[0].shape)
        _take_place(node, pooled)


def _clip(node: ir.Node) -> None:
    constants = [v for v in node.inputs if array_of(v) is not None]
    values = [v for v in node.inputs if array_of(v) is None]
    if len(values) != 1 or len(constants) != 1 or constant_of(constants[0], str(node.name)).size != 1:
        return  # refused below, by name
    inputs = [values[0], constants[0]] if node.op_type == "Max" else [values[0], None, constants[0]]
    _take_place(node, insert(node, "Clip", inputs, f"{node.outputs[0].name}_clip", shape=node.outputs[0].shape))


def _plain_gemm(graph: ir.Graph, node: ir.Node) -> None:
    if attribute(node, "transA", 0):
        raise QuantizationError(f"{node.name}: a Gemm with a transposed input is not supported")
    for name in ("alpha", "beta"):
        if attribute(node, name, 1.0) != 1.0:
            raise QuantizationError(f"{node.name}: a Gemm with {name}={attribute(node, name)} is not supported; put the factor into the weights")
    if not attribute(node, "transB", 0):
        raise QuantizationError(f"{node.name}: a product with a weight that is not a Linear layer's cannot be quantized; use torch.nn.Linear")


def _take_place(node: ir.Node, value: ir.Value) -> None:
    made = value.producer()
    assert made is not None
    made.name = node.name
    replace(node.outputs[0], value)
