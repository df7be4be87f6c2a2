"""split_to_slices: a split is a slice for each part.

    Split(x)  =>  Slice(x), Slice(x), …

Slices move codes, so any grid goes through them unchanged.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant, insert, replace
from lsq_export.graph.notes import FLOAT
from lsq_export.graph.read import attribute, is_op
from lsq_export.rewrite.contract.conditions import NO_SPLITS
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless


def split_to_slices(model: ir.Model) -> None:
    """Split(x)  =>  one Slice for each part."""
    graph = model.graph
    for node in list(graph):
        if is_op(node, "Split"):
            _slices(graph, node)
    clean(model)


def _slices(graph: ir.Graph, node: ir.Node) -> None:
    axis, x = attribute(node, "axis", 0), node.inputs[0]
    if x is None or x.shape is None or axis % len(x.shape) == 0:
        FLOAT.write(node, "a split of the batch")
        return
    first = 0
    if any(output.shape is None or not isinstance(output.shape[axis], int) for output in node.outputs):
        FLOAT.write(node, "a split into parts of unknown sizes")
        return
    for index, output in enumerate(node.outputs):
        assert output.shape is not None
        last = first + int(output.shape[axis])
        bounds = [
            constant(graph, f"{node.name}.{what}{index}", np.array([v]))
            for what, v in (("from", first), ("to", last), ("axis", axis % len(x.shape)))
        ]
        replace(output, insert(node, "Slice", [x, *bounds], f"{output.name}_slice", shape=output.shape))
        first = last


PASS = Pass("split_to_slices", stateless(split_to_slices), Keeps.VALUES, ensures=(NO_SPLITS,))
