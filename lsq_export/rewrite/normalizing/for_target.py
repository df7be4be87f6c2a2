"""What a fold has to know of its target.

Layers whose weights INT8 does not hold stay float for receivers that read no others: other tools' UINT8 weights may
have any zero point, so that their codes less it reach from -255 to 255 (adoption/layers.py).
"""

from __future__ import annotations

import onnx_ir as ir

from lsq_export.graph.notes import FLOAT, GRIDDED
from lsq_export.graph.read import attribute, is_marker
from lsq_export.targets.target import Target

LOWEST, HIGHEST = -128, 127
INT8_WEIGHTS = "int8-weights"  # of a target's dialect
TOO_WIDE = "its weight codes less their zero point do not fit INT8, which the target asks for"


def note_target(graph: ir.Graph, target: Target) -> None:
    """In a captured graph."""
    if target.quantized:
        GRIDDED.write(graph, True)
    if INT8_WEIGHTS in target.dialect:
        _keep_wide_float(graph)


def _keep_wide_float(graph: ir.Graph) -> None:
    for node in graph:
        if not is_marker(node) or attribute(node, "kind") != "weight":
            continue
        if attribute(node, "qmin") >= LOWEST and attribute(node, "qmax") <= HIGHEST:
            continue
        readers = [use.node for use in node.outputs[0].uses()]
        turned = [use.node for turn in readers if turn.op_type == "Transpose" for use in turn.outputs[0].uses()]
        for reader in [*turned, *(reader for reader in readers if reader.op_type != "Transpose")]:
            FLOAT.write(reader, TOO_WIDE)
