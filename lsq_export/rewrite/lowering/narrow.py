"""narrow: codes of the integer fold go into the narrowest standard types, packed in the file.

    Clip(QuantizeLinear(t; S, Z UINT8), 0, 15)   =>  QuantizeLinear(t; S, Z UINT4)     the type's own saturation clips
    Clip(QuantizeLinear(t; S, Z UINT8), 0, 7)    =>  QuantizeLinear(Min(t, (7 - Z)·S); S, Z UINT4)
                                                     (ONNX Runtime 1.32 fails on a Clip there)
    DequantizeLinear(q INT8; s)                  =>  DequantizeLinear(q INT4; s)
    DequantizeLinear(q INT8; s), q = +8 (E8)     =>  DequantizeLinear(q - 1 INT4; s, -1)    in the channels that hold it

UINT4 and INT4 need opset 21, UINT2 and INT2 opset 25. Exact. Grids of edges and 8-bit layers stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant, copy, insert, replace
from lsq_export.graph.kept_float import stays_float
from lsq_export.graph.layers import weight_of
from lsq_export.graph.operators import LAYERS, OPERATORS
from lsq_export.graph.read import constant_of, is_op
from lsq_export.graph.stock import newest_needed

UNSIGNED = ((3, ml_dtypes.uint2), (15, ml_dtypes.uint4))  # largest code, type
SIGNED = ((2, ml_dtypes.int2), (8, ml_dtypes.int4))  # codes -n … n - 1, type
Kinds = Sequence[tuple[int, Any]]
OPSET = {"UINT4": 21, "INT4": 21, "UINT2": 25, "INT2": 25}


def to_narrow(folded: ir.Model, containers: Collection[str]) -> ir.Model:
    """A new model. Only a model folded with "integer" has codes that fit. containers: types that may be used."""
    model = copy(folded)
    graph = model.graph
    unsigned, signed = ([(n, kind) for n, kind in kinds if _name(kind) in containers] for kinds in (UNSIGNED, SIGNED))
    for node in list(graph):
        if is_op(node, "Clip"):
            _narrow_activation(graph, node, unsigned)
    for node in list(graph):
        if is_op(node, *LAYERS):
            _narrow_weight(graph, node, signed)
        elif is_op(node, "QuantizeLinear") and node.inputs[2] is not None and node.inputs[2].dtype is not None:
            # Also of the grids that are repeated after a reshape or a pool.
            node.outputs[0].type = ir.TensorType(node.inputs[2].dtype)
    clean(model)
    return model


def _name(kind: Any) -> str:
    return np.dtype(kind).name.upper()


def opset_of(model: ir.Model, least: int) -> int:
    """The operator set that the narrowest type in the model needs, and its newest operator."""
    types = {v.dtype.name for v in model.graph.initializers.values() if v.dtype is not None}
    captured = model.graph.opset_imports.get("", least)
    newest = [OPERATORS[node.op_type].opset for node in model.graph if is_op(node, *OPERATORS)]
    newest += [newest_needed(node, captured) for node in model.graph if stays_float(node)]
    return max([least, *newest, *(OPSET[name] for name in types if name in OPSET)])


def _narrow_activation(graph: ir.Graph, clip: ir.Node, kinds: Kinds) -> None:
    codes = clip.inputs[0]
    quantize = codes.producer() if codes is not None else None
    if quantize is None or not is_op(quantize, "QuantizeLinear"):
        return
    low, high = (int(constant_of(v, str(clip.name))) for v in clip.inputs[1:3])
    full, kind = next(((largest, kind) for largest, kind in kinds if high <= largest), (0, None))
    if kind is None or low != 0:
        return
    scale, zero_point = quantize.inputs[1], quantize.inputs[2]
    assert scale is not None and zero_point is not None and codes is not None
    z = int(constant_of(zero_point, str(quantize.name)))
    if high < full:
        s = float(constant_of(scale, str(quantize.name)))
        bound = constant(graph, f"{codes.name}.highest", np.float32((high - z) * s))
        x = quantize.inputs[0]
        assert x is not None
        quantize.replace_input_with(0, insert(quantize, "Min", [x, bound], f"{codes.name}.clamped", shape=x.shape))
    replace(zero_point, constant(graph, f"{zero_point.name}.narrow", np.array(z).astype(kind)))
    name = clip.outputs[0].name
    replace(clip.outputs[0], codes)
    graph.remove(clip, safe=True)
    codes.name = name


def _narrow_weight(graph: ir.Graph, node: ir.Node, kinds: Kinds) -> None:
    weight = weight_of(node)
    stored, zero = (constant_of(weight.inputs[i], str(node.name)) for i in (0, 2))
    if stored.dtype != np.int8 or zero.any():
        return
    rows = stored.reshape(len(stored), -1).astype(np.int64)
    for bound, kind in kinds:
        shift = np.where(rows.max(axis=1) == bound, 1, 0)  # E8: -2^(b-1) with its sign flipped
        moved = rows - shift[:, None]
        if moved.min() < -bound or moved.max() > bound - 1:
            continue
        assert weight.inputs[0] is not None
        name = weight.inputs[0].name
        weight.replace_input_with(0, constant(graph, f"{name}.narrow", moved.reshape(stored.shape).astype(kind)))
        weight.replace_input_with(2, constant(graph, f"{name}.narrow.zero_point", (-shift).astype(kind)))
        return
