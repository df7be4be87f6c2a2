"""Whether layers of a file sum codes, as rewrite/lowering/exact_sums.py writes them for receivers that use floats:

DequantizeLinear(x; 1, z) -> Conv -> Clip(-2^31, 2^31) -> Mul
"""

from __future__ import annotations

import onnx

from .onnx_read import Constants

LAYERS = ("Conv", "Gemm", "MatMul")
LIMIT = 2.0**31


def sums_codes(graph: onnx.GraphProto, constants: Constants) -> bool:
    """Whether any layer does."""
    made_by = {name: node for node in graph.node for name in node.output}
    return any(
        _is_sum(made_by.get(node.input[0]), made_by, constants)
        for node in graph.node
        if node.op_type == "Mul" and node.input
    )


def _is_sum(clip: onnx.NodeProto | None, made_by: dict[str, onnx.NodeProto], constants: Constants) -> bool:
    if clip is None or clip.op_type != "Clip" or len(clip.input) != 3:
        return False
    bounds = [constants.get(name) for name in clip.input[1:]]
    if [None if b is None or b.size != 1 else b.item() for b in bounds] != [-LIMIT, LIMIT]:
        return False
    layer = made_by.get(clip.input[0])
    if layer is None or layer.op_type not in LAYERS:
        return False
    read = [made_by.get(name) for name in layer.input[:2]]
    return all(node is not None and _has_unit_scale(node, constants) for node in read)


def _has_unit_scale(node: onnx.NodeProto, constants: Constants) -> bool:
    scale = constants.get(node.input[1]) if node.op_type == "DequantizeLinear" else None
    return scale is not None and bool((scale == 1).all())
