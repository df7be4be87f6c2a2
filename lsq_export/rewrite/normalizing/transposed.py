"""transposed: a transposed convolution of stride r is a convolution to r times the channels for each axis; its outputs
are the phases of the result in turn.

    ConvTranspose(x, w [C_in, C / groups, k, k])  =>  DepthToSpace(Conv(x, w' [r²·C, C_in / groups, K, K]))
    another rank, strides that differ             =>  Reshape(Transpose(Reshape(Conv(x, w'))))
    BatchNormalization(ConvTranspose(x))          =>  the same, with the batch norm behind the Conv
    outputs beyond the last one                   =>  Slice

Output o = r·m + f gets tap t of input m + e where r·e = f + pad - dilation·t: w' has the weight of that tap at place e
of phase f, and 0 where there is none. Exact: the same products in the same sums, nothing is stuffed with zeros, and a
grid per output channel stays one.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from lsq_export.graph.edit import clean, constant, insert, replace
from lsq_export.graph.kept_float import stays_float
from lsq_export.graph.notes import FLOAT
from lsq_export.graph.read import (
    array_of,
    attribute,
    constant_of,
    input_of,
    is_marker,
    maker_of,
    producer_of,
    single_consumer,
)
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless

from .phases import Axis, axis_of, by_output, of_phases


def transposed_to_convolutions(model: ir.Model) -> None:
    for node in list(model.graph):
        if node.domain == "" and node.op_type == "ConvTranspose":
            _rewrite(model.graph, node)
    clean(model)


def _rewrite(graph: ir.Graph, node: ir.Node) -> None:
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID") or attribute(node, "output_shape") is not None:
        raise QuantizationError(f"{node.name}: auto_pad and output_shape are not supported; give the pads as numbers")
    x, axes, last = input_of(node), _axes(node), node
    phases, name, y = prod(axis.stride for axis in axes), str(node.name), node.outputs[0]
    bias = constant_of(node.inputs[2], name) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    weight = _weight(graph, node, axes)
    assert weight.shape is not None
    channels = int(weight.shape[0])  # type: ignore[arg-type]
    inputs: list[ir.Value | None] = [x, weight]
    if bias is not None:
        inputs.append(constant(graph, f"{name}.phases.bias", np.repeat(bias, phases)))
    pads = [axis.pads for axis in axes]
    shape = [x.shape[0], channels, *_sizes(x, axes)] if x.shape is not None else None
    value = insert(
        node,
        "Conv",
        inputs,
        f"{y.name}_phases",
        shape=shape,
        group=attribute(node, "group", 1),
        kernel_shape=[axis.kernel for axis in axes],
        strides=[1] * len(axes),
        dilations=[1] * len(axes),
        pads=[*(before for before, _ in pads), *(after for _, after in pads)],
    )
    layer = maker_of(value)
    layer.name = node.name
    if stays_float(node):
        FLOAT.write(layer, True)
    norm = next(iter(y.consumers()), None) if single_consumer(y) else None
    if norm is not None and norm.op_type == "BatchNormalization" and phases > 1:
        value, last = _norm_of_phases(graph, norm, value, phases), norm
    replace(last.outputs[0], _cut(graph, last, _in_turn(graph, last, value, axes), axes))


def _axes(node: ir.Node) -> tuple[Axis, ...]:
    kernel = attribute(node, "kernel_shape")
    spatial = len(kernel)
    ones, zeros = [1] * spatial, [0] * spatial
    pads = attribute(node, "pads", zeros * 2)
    geometry = zip(
        kernel,
        attribute(node, "strides", ones),
        attribute(node, "dilations", ones),
        zip(pads[:spatial], pads[spatial:], strict=True),
        attribute(node, "output_padding", zeros),
        strict=True,
    )
    return tuple(axis_of(*numbers) for numbers in geometry)


def _sizes(x: ir.Value, axes: tuple[Axis, ...]) -> Iterator[int | ir.SymbolicDim | None]:
    assert x.shape is not None
    for size, axis in zip(x.shape[2:], axes, strict=True):
        yield size + axis.more if isinstance(size, int) else None


def _weight(graph: ir.Graph, node: ir.Node, axes: tuple[Axis, ...]) -> ir.Value:
    """The weight of the convolution: behind a marker of its own, or float where the layer is kept float."""
    name, marker = str(node.name), producer_of(node.inputs[1])
    phases = prod(axis.stride for axis in axes)
    while marker is not None and marker.op_type in ("Transpose", "Reshape"):
        marker = producer_of(marker.inputs[0])
    if marker is None or not is_marker(marker) or attribute(marker, "kind") != "weight":
        array = array_of(node.inputs[1])
        if array is None:
            raise QuantizationError(f"{name}: this ConvTranspose has no constant weight; use torch.nn.ConvTranspose2d")
        array = by_output(array, attribute(node, "group", 1))
        return constant(graph, f"{name}.phases.weight", of_phases(array, axes))
    quantizer = attribute(marker, "quantizer")
    array = constant_of(marker.inputs[0], quantizer)  # [C, C_in / groups, …]
    grid = [constant_of(v, quantizer) for v in marker.inputs[1:3]]  # [] or [C]
    grid = [np.repeat(v, phases) if v.ndim else v for v in grid]
    inputs = [
        constant(graph, f"{quantizer}.phases", of_phases(array, axes)),
        *(constant(graph, f"{quantizer}.phases.{i}", v) for i, v in enumerate(grid)),
    ]
    shape = [phases * len(array), array.shape[1], *(axis.kernel for axis in axes)]
    value = insert(node, marker.op_type, inputs, f"{quantizer}.of_phases", domain=marker.domain, shape=shape)
    maker_of(value).attributes.update(marker.attributes)
    return value


def _norm_of_phases(graph: ir.Graph, norm: ir.Node, x: ir.Value, phases: int) -> ir.Value:
    """The batch norm on the phases of each channel."""
    name = str(norm.name)
    repeated = [
        constant(graph, f"{name}.phases.{i}", np.repeat(constant_of(v, name), phases))
        for i, v in enumerate(norm.inputs[1:])
    ]
    y = insert(norm, "BatchNormalization", [x, *repeated], f"{norm.outputs[0].name}_phases", shape=x.shape)
    maker_of(y).name = norm.name
    maker_of(y).attributes.update(norm.attributes)
    return y


def _in_turn(graph: ir.Graph, before: ir.Node, x: ir.Value, axes: tuple[Axis, ...]) -> ir.Value:
    """[N, C·r·…, M, …] => [N, C, r·M, …]"""
    strides, name = [axis.stride for axis in axes], f"{x.name}_in_turn"
    assert x.shape is not None
    batch, channels, *sizes = x.shape
    phases = prod(strides)
    if phases == 1:
        return x
    assert isinstance(channels, int)
    long = [size * r if isinstance(size, int) else None for size, r in zip(sizes, strides, strict=True)]
    whole = [batch, channels // phases, *long]
    if len(axes) == 2 and strides[0] == strides[1]:
        return insert(before, "DepthToSpace", [x], name, shape=whole, blocksize=strides[0], mode="CRD")
    if not all(isinstance(size, int) for size in sizes):
        raise QuantizationError(f"{before.name}: a ConvTranspose with strides {strides} needs inputs of a fixed size")
    spatial = len(axes)
    apart = [batch, channels // phases, *strides, *sizes]
    order = [0, 1, *(place for axis in range(spatial) for place in (2 + spatial + axis, 2 + axis))]
    shapes = [constant(graph, f"{name}.shape", np.array([0, *s[1:]])) for s in (apart, whole)]
    x = insert(before, "Reshape", [x, shapes[0]], f"{name}_apart", shape=apart)
    x = insert(before, "Transpose", [x], f"{name}_turned", shape=[apart[axis] for axis in order], perm=order)
    return insert(before, "Reshape", [x, shapes[1]], name, shape=whole)


def _cut(graph: ir.Graph, before: ir.Node, x: ir.Value, axes: tuple[Axis, ...]) -> ir.Value:
    """Without the outputs beyond the last one."""
    beyond = {2 + index: axis.beyond for index, axis in enumerate(axes) if axis.beyond}
    if not beyond:
        return x
    bounds = [np.zeros(len(beyond)), -np.array(list(beyond.values())), np.array(list(beyond))]
    constants = [
        constant(graph, f"{x.name}.{what}", values.astype(np.int64))
        for what, values in zip(("from", "to", "axes"), bounds, strict=True)
    ]
    return insert(before, "Slice", [x, *constants], f"{x.name}_cut", shape=before.outputs[0].shape)


PASS = Pass("transposed", stateless(transposed_to_convolutions), Keeps.VALUES)
