"""Inputs of a float file whose first axis is not the batch, as states of recurrent networks: one sample at a time.

    x [1, 576], state [2, 1, 128]   =>   x [1, 576], state [1, 2, 1, 128]; Squeeze(state) is what was the input
    y [1, 1], stateN [2, 1, 128]    =>   y [1, 1], stateN [1, 2, 1, 128] = Unsqueeze(what was the output)

What comes out goes in again as it is. Where the batch is open, but not the first axis of all inputs, it is one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, insert_after, make
from lsq_export.graph.read import data_uses


def lead(graph: ir.Graph) -> Mapping[str, int]:
    """{input that got an axis: how many it had}; nothing where all inputs begin with the batch."""
    shapes = {str(value.name): list(value.shape or ()) for value in graph.inputs}
    firsts = [shape[0] for shape in shapes.values() if shape]
    if len(firsts) != len(shapes) or len({str(first) for first in firsts}) == 1:
        return {}
    opened = {first.value for first in firsts if isinstance(first, ir.SymbolicDim)}
    if 1 not in firsts and not opened:
        return {}
    led = {}
    for value in graph.inputs:
        value.shape = _fixed(value.shape, opened)
        if value.shape is not None and value.shape[0] != 1:
            led[str(value.name)] = len(value.shape)
            _lead_input(graph, value)
    for index, output in enumerate(graph.outputs):
        output.shape = _fixed(output.shape, opened)
        if led and output.shape is not None and len(output.shape) and output.shape[0] != 1:
            graph.outputs[index] = _led_output(graph, output)
    return led


def _fixed(shape: ir.Shape | None, opened: set[str | None]) -> ir.Shape | None:
    """With one for the sizes of these names."""
    if shape is None:
        return None
    return ir.Shape([1 if isinstance(size, ir.SymbolicDim) and size.value in opened else size for size in shape])


def _lead_input(graph: ir.Graph, value: ir.Value) -> None:
    uses, shape = data_uses(value), value.shape
    axis = constant(graph, f"{value.name}.led_axis", np.array([0], np.int64))
    plain = make("Squeeze", [value, axis], f"{value.name}.plain", shape=shape)
    plain.name = f"{value.name}.Squeeze"
    plain.outputs[0].type = value.type
    graph.insert_before(graph[0], plain)
    for node, index in uses:
        node.replace_input_with(index, plain.outputs[0])
    value.shape = ir.Shape([1, *(shape or ())])


def _led_output(graph: ir.Graph, output: ir.Value) -> ir.Value:
    axis = constant(graph, f"{output.name}.led_axis", np.array([0], np.int64))
    name = str(output.name)
    output.name = f"{name}_plain"
    led = insert_after(output, graph, "Unsqueeze", [output, axis], name)
    led.type, led.shape = output.type, ir.Shape([1, *(output.shape or ())])
    return led
