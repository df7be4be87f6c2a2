"""tile_gates: one code for each channel is copied to all pixels before it is multiplied; kernels are faster on that.

    QLinearMul(x [N, C, H, W], g [N, C, 1, 1])  =>  QLinearMul(x, Tile(g, [1, 1, H, W]))

The products are the same integers. Kernels work on channels last, where a gate repeats after C elements, and start anew
for each pixel.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, insert

FACTORS = (0, 3)  # the inputs of QLinearMul that hold codes


def tile_gates(graph: ir.Graph) -> None:
    """In a qoperator graph."""
    for node in list(graph):
        if node.op_type == "QLinearMul":
            for index, other in (FACTORS, FACTORS[::-1]):
                _tile(graph, node, index, node.inputs[other])


def _tile(graph: ir.Graph, node: ir.Node, index: int, image: ir.Value | None) -> None:
    gate = node.inputs[index]
    assert gate is not None and gate.dtype is not None and image is not None
    pixels = _pixels(image)
    if pixels is None or _pixels(gate) != [1, 1] or pixels == [1, 1]:
        return
    name = f"{gate.name}.{node.name}.tiled"
    repeats = constant(graph, f"{name}.repeats", np.array([1, 1, *pixels], np.int64))
    tiled = insert(node, "Tile", [gate, repeats], name, shape=ir.Shape([*(gate.shape or ())[:2], *pixels]))
    tiled.dtype = gate.dtype
    node.replace_input_with(index, tiled)


def _pixels(value: ir.Value) -> list[int] | None:
    """Height and width of images [N, C, H, W], where the graph fixes them."""
    if value.shape is None or len(value.shape) != 4:
        return None
    sizes = [size for size in value.shape[2:] if isinstance(size, int)]
    return sizes if len(sizes) == 2 else None
