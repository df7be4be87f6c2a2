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

from lsq_export.graph.edit import clean, constant, insert, replace
from lsq_export.graph.in_turn import cut, in_turn
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
    """Those with a constant weight, and pads that are numbers; others are left."""
    for node in list(model.graph):
        if node.domain == "" and node.op_type == "ConvTranspose" and _is_plain(node):
            _rewrite(model.graph, node)
    clean(model)


def _is_plain(node: ir.Node) -> bool:
    x, axes = input_of(node), _axes(node)
    strides = {axis.stride for axis in axes}
    fixed = x.shape is not None and all(isinstance(size, int) for size in x.shape[2:])
    shuffled = len(axes) == 2 and len(strides) == 1
    numbers = attribute(node, "auto_pad", "NOTSET") == "NOTSET" and attribute(node, "output_shape") is None
    known = _marker_of(node) is not None or array_of(node.inputs[1]) is not None
    return numbers and known and x.shape is not None and (fixed or shuffled or strides == {1})


def _rewrite(graph: ir.Graph, node: ir.Node) -> None:
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
        FLOAT.write(layer, FLOAT.read(node))
    norm = next(iter(y.consumers()), None) if single_consumer(y) else None
    if norm is not None and norm.op_type == "BatchNormalization" and phases > 1:
        value, last = _norm_of_phases(graph, norm, value, phases), norm
    turned = in_turn(last, value, [axis.stride for axis in axes])
    assert turned is not None
    replace(last.outputs[0], cut(last, turned, [axis.beyond for axis in axes]))


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
    name, marker = str(node.name), _marker_of(node)
    phases = prod(axis.stride for axis in axes)
    if marker is None:
        array = by_output(constant_of(node.inputs[1], name), attribute(node, "group", 1))
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


def _marker_of(node: ir.Node) -> ir.Node | None:
    """Of the weight, whose axes are swapped behind it."""
    marker = producer_of(node.inputs[1])
    while marker is not None and marker.op_type in ("Transpose", "Reshape"):
        marker = producer_of(marker.inputs[0])
    return marker if marker is not None and is_marker(marker) and attribute(marker, "kind") == "weight" else None


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


PASS = Pass("transposed", stateless(transposed_to_convolutions), Keeps.VALUES)
