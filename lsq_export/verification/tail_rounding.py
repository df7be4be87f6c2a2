"""What the float operators of a tail (rewrite/folding/output_tails.py) may miss, when they compute in float32.

boxes = anchors - distances     each box is right to the last bits of the anchors, not of its own small difference
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.kept_float import is_tail
from lsq_export.graph.read import array_of


def added(output: ir.Value) -> float:
    """The largest number that the tail of an output adds to values, in units of the output; 0 where it adds none."""
    node = output.producer()
    if node is None or not is_tail(node):
        return 0.0
    numbers = [np.abs(array).max(initial=0.0) for array in map(array_of, node.inputs) if array is not None]
    before = max((added(x) for x in node.inputs if x is not None and array_of(x) is None), default=0.0)
    if node.op_type == "Mul":
        return float(before * np.prod(numbers))
    return float(max(before, *numbers)) if node.op_type in ("Add", "Sub") and numbers else before
