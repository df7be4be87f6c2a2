"""normalize: what torch's exporter writes in several ways gets one form.

    Identity(x), Dropout(x)                          =>  x
    ReduceMean(x), ReduceMax(x), …                   =>  AveragePool(x), MaxPool(x)     (reductions.py)
    AveragePool(x), kernel = the whole of H × W      =>  GlobalAveragePool(x)
    MaxPool(x), ceil_mode                            =>  MaxPool(x) with more padding at the end
    AveragePool(x), ceil_mode                        =>  AveragePool(Pad(x)) with padding at the end that counts not
    Max(x, c), Min(x, c)                             =>  Clip(x, c), Clip(x, , c)
    MatMul(x, Transpose(W))                          =>  Gemm(x, W)                     (linear_on_tokens.py)
    Gemm(x, W; alpha, beta), Gemm(x, y), Einsum      =>  Gemm(x, W), MatMul(x, y)       (products.py)
    Concat(x, Expand(c))                             =>  Add(Pad(x), c)                 (joined_constants.py)
    norms, softmax, GELU, written out                =>  the one operator that they are (by_numbers.py)
    HardSwish(x), Sub(x, y), Pad(x), …               =>  what they are made of          (decompose.py)

All of these are exact. Anything that has no integer form stays float (float_islands.py).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant, insert, replace
from lsq_export.graph.kept_float import is_wished, stays_float
from lsq_export.graph.read import array_of, attribute, constant_of, graph_of, input_of, is_op, maker_of
from lsq_export.rewrite.contract.conditions import KNOWN_OPERATORS, NO_SPLITS
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless

from .by_numbers import recognize
from .decompose import decompose
from .float_islands import keep_islands_float, keep_norms_by_hand_float
from .joined_constants import BROADCAST, drop_repetition, sum_instead
from .linear_on_tokens import flatten_tokens
from .products import plain_gemm
from .reductions import POOLS, to_pool


def normalize(model: ir.Model) -> None:
    graph = model.graph
    recognize(graph)
    keep_norms_by_hand_float(graph)
    for node in list(graph):
        if node.op_type in BROADCAST and node.domain == "":
            drop_repetition(node)
        if is_op(node, "Concat") and sum_instead(node):
            continue
        if is_op(node, "Identity", "Dropout"):
            replace(node.outputs[0], input_of(node))
        elif is_op(node, *POOLS):
            to_pool(node)
        elif is_op(node, "AveragePool"):
            _whole_average(node)
            _plain_windows(node)
        elif is_op(node, "MaxPool"):
            _plain_windows(node)
        elif is_op(node, "Max", "Min"):
            _clip(node)
        elif is_op(node, "Gemm"):
            plain_gemm(node)
        elif node.op_type == "MatMul" and (is_wished(node) or not stays_float(node)):
            flatten_tokens(graph, node)
        elif not stays_float(node):
            decompose(node)
    clean(model)
    keep_islands_float(model)


def _whole_average(node: ir.Node) -> None:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if (
        shape is not None
        and list(shape[2:]) == list(attribute(node, "kernel_shape"))
        and not any(attribute(node, "pads", [0]))
    ):
        pooled = insert(
            node, "GlobalAveragePool", [node.inputs[0]], f"{node.outputs[0].name}_pool", shape=node.outputs[0].shape
        )
        _take_place(node, pooled)


def _plain_windows(node: ir.Node) -> None:
    """ceil_mode keeps a last window that is cut off, unless it would begin after the input. A MaxPool may read -∞
    there, so it gets the padding. An AveragePool gets padding that does not count; where its own does, that becomes
    zeros of the input first.
    """
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None or not attribute(node, "ceil_mode", 0) or not all(isinstance(size, int) for size in shape[2:]):
        return
    kernel, pads, ones = attribute(node, "kernel_shape"), list(attribute(node, "pads", [0, 0, 0, 0])), [1, 1]
    strides, dilations = attribute(node, "strides", ones), attribute(node, "dilations", ones)
    sizes = [size for size in shape[2:] if isinstance(size, int)]
    for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
        window, reach = (kernel[axis] - 1) * dilations[axis] + 1, size + pads[axis]
        # where the last window begins
        last = min(-(-(reach + pads[axis + 2] - window) // stride), (reach - 1) // stride) * stride
        pads[axis + 2] = max(0, last + window - reach)
    before = list(attribute(node, "pads", [0, 0, 0, 0]))
    if pads != before and any(pad >= size for pad, size in zip(pads[2:], kernel, strict=True)):
        return
    if pads != before and node.op_type == "AveragePool":
        if any(before) and attribute(node, "count_include_pad", 0):
            _pad_with_zeros(node, before)
            pads = [0, 0, *(max(0, pad - own) for pad, own in zip(pads[2:], before[2:], strict=True))]
        node.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 0)
    node.attributes["ceil_mode"] = ir.AttrInt64("ceil_mode", 0)
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)


def _pad_with_zeros(node: ir.Node, pads: list[int]) -> None:
    """The pads of an image become a Pad before the node."""
    x, name, graph = input_of(node), str(node.outputs[0].name), graph_of(node)
    assert x.shape is not None
    sizes = [size + pads[axis] + pads[2 + axis] for axis, size in enumerate(x.shape[2:]) if isinstance(size, int)]
    whole = constant(graph, f"{name}.pads", np.array([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64))
    zero = constant(graph, f"{name}.zero", np.zeros((), np.float32))
    node.replace_input_with(0, insert(node, "Pad", [x, whole, zero], f"{name}_pad", shape=[*x.shape[:2], *sizes]))


def _clip(node: ir.Node) -> None:
    constants = [v for v in node.inputs if array_of(v) is not None]
    values = [v for v in node.inputs if array_of(v) is None]
    if len(values) != 1 or len(constants) != 1 or constant_of(constants[0], str(node.name)).size != 1:
        return
    inputs = [values[0], constants[0]] if node.op_type == "Max" else [values[0], None, constants[0]]
    _take_place(node, insert(node, "Clip", inputs, f"{node.outputs[0].name}_clip", shape=node.outputs[0].shape))


def _take_place(node: ir.Node, value: ir.Value) -> None:
    maker_of(value).name = node.name
    replace(node.outputs[0], value)


PASS = Pass(
    "normalize", stateless(normalize), Keeps.VALUES, requires=(NO_SPLITS,), ensures=(KNOWN_OPERATORS, NO_SPLITS)
)
