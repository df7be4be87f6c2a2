"""Evaluate a captured, a folded or a QDQ graph in floating point, with torch, in float64 or float32.

One table of operators serves the trained model (markers, E1), the folded model (QuantizeLinear and DequantizeLinear,
E2) and the calibration of edges. The integer graph has an evaluator of its own that shares no code with this one
(`lsq_export.integer`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from calib.errors import QuantizationError
from calib.samples import Arrays, Input, named, numbers_of, parts_of

from .float_grids import fake_quantize
from .kept_float import is_tail, is_wished, stays_float
from .operators import CONTRIB, OPERATORS, Meaning
from .read import array_of, attribute, gives_more, is_marker, rank_of
from .stock import run_stock

Tensor = torch.Tensor
OnValue = Callable[[str, Tensor], "Tensor | None"]
OnNode = Callable[[ir.Value, "list[Tensor | None]", Tensor], "Tensor | None"]  # (output, inputs of its node, value)
# Numbers evaluated at once where every layer is held in float64: of the inputs, 98 images of 3×32×32 or 2 of 3×224×224,
# and of all values, 1 GB: what becomes of one token or byte is hundreds of numbers.
PORTION, VALUES = 2 * 3 * 224**2, 2**27


def evaluate(
    graph: ir.Graph,
    x: Input | Arrays,
    *,
    dtype: torch.dtype = torch.float64,
    on_value: OnValue | None = None,
    on_node: OnNode | None = None,
) -> list[Tensor]:
    """Outputs of the graph for one input batch; integers and bools among its inputs stay what they are.

    on_value(name, value) sees every computed value in order; what it returns (if not None) takes the value's place,
    so that each layer can be fed with inputs from elsewhere. Tensors are freed after their last use.
    """
    given = named(x, [str(value.name) for value in graph.inputs])
    values: dict[ir.Value, Tensor] = {}
    for value in graph.inputs:
        tensor = torch.as_tensor(given[str(value.name)])
        values[value] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    last_use = _last_uses(graph)
    outputs = set(graph.outputs)
    with torch.no_grad():
        for index, node in enumerate(graph):
            meaning = _meaning(node)
            inputs = [
                None if v is None else values[v] if v in values else constant_tensor(v, dtype, meaning is None)
                for v in node.inputs
            ]
            made = _made(node, meaning, inputs)
            results = [result.to(dtype) if result.is_floating_point() else result for result in made]
            for value, result in zip(node.outputs, results, strict=False):  # masks of a Dropout have no meaning
                name = str(value.name)
                replaced = on_value(name, result) if on_value else on_node(value, inputs, result) if on_node else None
                values[value] = result if replaced is None else replaced.to(result.dtype)
            for v in last_use.get(index, ()):
                if v not in outputs:
                    values.pop(v, None)
    return [values[v] for v in graph.outputs]


def has_meaning(graph: ir.Graph) -> bool:
    """Every operator can be evaluated; those of a domain of nobody's cannot."""
    return all(is_marker(node) or node.domain in ("", CONTRIB) for node in graph)


def evaluate_node(node: ir.Node, x: Tensor, given: Mapping[int, Tensor]) -> Tensor:
    """One operator on x. given: {index: input} in place of what the graph has; the other inputs are constants."""
    inputs = [
        given[i] if i in given else None if v is None else constant_tensor(v, x.dtype)
        for i, v in enumerate(node.inputs)
        if i
    ]
    (result,) = outputs_of(node, [x, *inputs])
    return result


def has_gradient(node: ir.Node) -> bool:
    """Whether torch computes the operator, and with it gradients; ONNX Runtime computes the others."""
    return _meaning(node) is not None


def results_of(node: ir.Node) -> tuple[Tensor, ...]:
    """All outputs of a node whose inputs are constants, floats in float32."""
    raw = _meaning(node) is None
    return outputs_of(node, [None if v is None else constant_tensor(v, torch.float32, raw) for v in node.inputs])


def portions_of(images: Any, graph: ir.Graph) -> tuple[Any, ...]:
    """images [N, …] in parts of at most PORTION numbers and VALUES values, or of one. graph: which takes them."""
    count = min(PORTION // max(1, numbers_of(images)), VALUES // max(1, _values_of_one(graph)))
    return parts_of(images, 1 if takes_one(graph) else max(1, count))


def _values_of_one(graph: ir.Graph) -> int:
    """How many numbers all values of one image are, as far as their sizes are known: those with an open size, the
    batch; weights have none.
    """
    shapes = [list(value.shape) for node in graph for value in node.outputs if value.shape is not None]
    sizes = [[size for size in shape if isinstance(size, int)] for shape in shapes]
    return sum(math.prod(known) for shape, known in zip(shapes, sizes, strict=True) if len(known) < len(shape))


def takes_one(graph: ir.Graph) -> bool:
    """Whether the batch is always one."""
    shape = graph.inputs[0].shape
    return shape is not None and len(shape) > 0 and shape[0] == 1


def _last_uses(graph: ir.Graph) -> dict[int, list[ir.Value]]:
    last: dict[ir.Value, int] = {}
    for index, node in enumerate(graph):
        for v in node.inputs:
            if v is not None:
                last[v] = index
    by_node: dict[int, list[ir.Value]] = {}
    for v, index in last.items():
        by_node.setdefault(index, []).append(v)
    return by_node


def constant_tensor(value: ir.Value, dtype: torch.dtype, raw: bool = False) -> Tensor:
    """A constant of the graph. raw: integers and masks keep their type."""
    array = array_of(value)
    if array is None:
        raise QuantizationError(f"{value.name}: the graph reads this value before it is made")
    if array.dtype == np.int64 or (raw and array.dtype.kind in "biu"):
        return torch.from_numpy(array.copy())  # shapes and axes stay integers
    kind = np.float32 if dtype == torch.float32 else np.float64
    return torch.from_numpy(np.asarray(array).astype(kind)).to(dtype)


def _meaning(node: ir.Node) -> Meaning | None:
    """That of our table; None where ONNX Runtime has to say what an operator makes.

    So it is with all that stays as it is, but for layers by wish, and before normalization with forms that the table
    does not mean.
    """
    if is_marker(node):
        return fake_quantize
    row = OPERATORS.get(node.op_type) if node.domain == "" else None
    if row is None or (stays_float(node) and not (is_wished(node) or is_tail(node))):
        return None
    if gives_more(node) and node.op_type != "Split":
        return None
    if row.constants and any(v is not None and array_of(v) is None for v in node.inputs[1:]):
        return None
    if node.op_type == "Resize":
        nearest = attribute(node, "mode") == "nearest" and attribute(node, "nearest_mode") == "floor"
        return row.meaning if nearest and len(node.inputs) == 3 and node.inputs[2] is not None else None
    if node.op_type in ("MaxPool", "AveragePool", "GlobalAveragePool"):
        pads = list(attribute(node, "pads", []))
        even = node.op_type == "MaxPool" or pads[:2] == pads[2:] or not attribute(node, "ceil_mode", 0)
        explicit = attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
        return row.meaning if rank_of(node.inputs[0]) in (0, 4) and even and explicit else None
    return row.meaning


def outputs_of(node: ir.Node, inputs: list[Any]) -> tuple[Tensor, ...]:
    """All outputs of a node."""
    return computed_by(node)(inputs)


def computed_by(node: ir.Node) -> Callable[[list[Any]], tuple[Tensor, ...]]:
    """What makes all outputs of a node of its inputs; for a node that is evaluated many times."""
    return partial(_made, node, _meaning(node))


def _made(node: ir.Node, meaning: Meaning | None, inputs: list[Any]) -> tuple[Tensor, ...]:
    if meaning is None:
        if node.domain not in ("", CONTRIB):
            raise QuantizationError(f"{node.name}: no float evaluation for the operator {node.domain}::{node.op_type}")
        return run_stock(node, inputs)
    result = meaning(node, inputs)
    return result if isinstance(result, tuple) else (result,)
