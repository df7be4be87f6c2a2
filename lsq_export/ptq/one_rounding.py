"""Functions of one tensor stay float between the codes before and after them: calibrated grids round once there.

    Conv -> x·Clip(x + 3, 0, 6)/6 -> ·s -> + b -> Conv       one island, not four tensors with a grid of 8 bits each

Training learns to live with the grids within such a chain; calibration cannot. Each is a table of 256 entries, which is
what the format `lookup` makes of it.
"""

from __future__ import annotations

import onnx_ir as ir

from lsq_export.graph.kept_float import stays_float
from lsq_export.graph.notes import FLOAT
from lsq_export.graph.operators import CLAMPS
from lsq_export.graph.read import array_of, is_float, is_op

WHY = "a function of one tensor, which is rounded once"
PARTS = (*CLAMPS, "Add", "Div", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "Sigmoid", "Sub")
CHEAP = (*CLAMPS, "LeakyRelu")  # rounded nowhere, or once in any case


def round_once(graph: ir.Graph) -> None:
    """Give the operators of such functions the note FLOAT."""
    roots: dict[ir.Value, ir.Value] = {}  # result of an operator -> what it is a function of
    groups: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        root = _root(node, roots)
        if root is None or (root not in groups and is_op(node, *CHEAP)):
            continue
        roots[node.outputs[0]] = root
        groups.setdefault(root, []).append(node)
    for group in groups.values():
        if sum(not is_op(node, *CHEAP) for node in group) > 1 or is_op(group[0], "HardSwish"):
            for node in group:
                FLOAT.write(node, WHY)


def _root(node: ir.Node, roots: dict[ir.Value, ir.Value]) -> ir.Value | None:
    """The one tensor that an operator is a function of, with constants; None if it is none or computes of several."""
    if node.domain != "" or not is_op(node, *PARTS) or stays_float(node) or not is_float(node.outputs[0]):
        return None
    tensors = [x for x in node.inputs if x is not None and array_of(x) is None]
    found = {roots.get(x, x) for x in tensors}
    return found.pop() if len(found) == 1 and is_float(tensors[0]) else None
