"""float_islands: what has no integer form stays as it is, a float island between grids, whatever the operator.

    GridSample(x, g)                 gets the note FLOAT, with the reason
    Add(island, c), Mul(island, y)   and what lies between two such operators: no grid cuts an island into pieces
    Add(x, y)                        that layer norms alone read, or a row of such sums: what a norm takes apart has
                                     channels far larger than others, and 8 bits for all of them lose the others
    Gelu(Reshape(Gemm(x)))           what moves elements between a Linear layer and a function that stays float
    GridSample(x, MatMul(g, t))      coordinates of samples too, back to the layers or grids that they are made of: 8
                                     bits are steps of a pixel and more
    Conv(x, FakeQuantize(W))         one that stays float, as 1-d ones: the weight becomes its trained values
    Transpose(W)                     and what else is made of such values alone becomes a constant

The table of operators (graph/operators.py) decides what becomes integer, never what is allowed. Products of two
computed tensors and layers are not drawn into an island.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch

from lsq_export.graph.edit import clean, constant, replace
from lsq_export.graph.evaluate import evaluate_node
from lsq_export.graph.float_grids import fake_quantize
from lsq_export.graph.islands import is_rectifier
from lsq_export.graph.kept_float import is_wished, of_shapes, stays_float
from lsq_export.graph.notes import FLOAT
from lsq_export.graph.operators import CLAMPS, ISLANDS, LAYERS, MOVES, Kind, named
from lsq_export.graph.read import (
    array_of,
    attribute,
    constant_of,
    data_readers,
    is_float,
    is_marker,
    is_op,
    producer_of,
)
from lsq_export.qat.drawn_in import Role, drawn_in

from .no_integer_form import why_float

BETWEEN = "between float operators"
PLACES = "it makes coordinates of samples, for which 8 bits are too few"
# What an island may draw in: cheap in float, and no reason for a grid of its own.
SOFT = (*MOVES, *CLAMPS, *(name for name in named(Kind.ARITHMETIC) if name not in ("MatMul", "GlobalAveragePool")))
REWRITTEN = named(Kind.REWRITTEN)
MEANS = ("ReduceMean", "ReduceSum", "ReduceSumSquare")
SOFTMAX = ("LogSoftmax", "Softmax")
NORMS = ("LayerNormalization",)  # whose residual sums stay float
TAILS = ("Add", "BatchNormalization", "Mul")  # with constants, after an island
PRODUCTS = (*LAYERS, "BatchNormalization", "ConvTranspose", "Einsum", "MatMul")


def keep_norms_by_hand_float(graph: ir.Graph) -> None:
    """Means that only islands read, and what is around them: 8 bits are too few for a variance."""
    for node in drawn_in(list(graph), _role_in_norm, _makers, _readers, _never, _is_light_or_bias, _is_mask, _never):
        FLOAT.write(node, BETWEEN)
    for node in graph:
        for part in (*_similarity(node), *_float_mean(node)):
            FLOAT.write(part, BETWEEN)


def _similarity(node: ir.Node) -> list[ir.Node]:
    """[Mul, ReduceSum(Mul(x / |x|, y / |y|))] as torch's cosine_similarity ends; nothing of other nodes.

    Training knows that function as one float operator, so that none of its parts has a grid.
    """
    product = producer_of(node.inputs[0]) if is_op(node, *MEANS) else None
    if product is None or not is_op(product, "Mul") or stays_float(node) or len(_readers(product) or ()) != 1:
        return []
    parts = _makers(product)
    divided = [is_op(part, "Div") and array_of(part.inputs[1]) is None for part in parts]
    return [product, node] if divided == [True, True] else []


def _float_mean(node: ir.Node) -> list[ir.Node]:
    """[node], a mean or sum of rows of a table, as bags of embeddings are, before a learned grid; else nothing.

    As an integer operator it would need a grid before it, which training did not have. Functions of integers, as
    GELU, are tables: what they make gets its grid, and their means are integers.
    """
    if not is_op(node, *MEANS) or stays_float(node):
        return []
    makers = [maker for maker in _makers(node) if not is_marker(maker)]
    after = [maker for maker in makers if is_op(maker, "Gather") and (why_float(maker) or stays_float(maker))]
    readers = _readers(node) or ()
    before = bool(readers) and all(is_marker(r) and attribute(r, "kind") != "weight" for r in readers)
    return [node] if before and len(after) == 1 and not of_shapes(after[0]) else []


def _role_in_norm(node: ir.Node) -> Role:
    """Of a graph that is not normalized yet."""
    if stays_float(node):
        return Role.OTHER
    divided = is_op(node, "Div") and array_of(node.inputs[1]) is None
    raised = is_op(node, "Pow") and not _is_two(node)
    if divided or raised or (is_op(node, *ISLANDS) and not is_op(node, "Div", "Pow", "PRelu")):
        return Role.ISLAND
    if is_op(node, *MEANS):
        return Role.MEAN
    return Role.SOFT if is_op(node, *SOFT, *REWRITTEN, "Div", "Pow") else Role.OTHER


def _is_two(node: ir.Node) -> bool:
    exponent = array_of(node.inputs[1])
    return exponent is not None and exponent.size == 1 and exponent.item() == 2


def keep_islands_float(model: ir.Model) -> None:
    graph = model.graph
    for node in graph:
        why = None if is_marker(node) or stays_float(node) else why_float(node)
        if why is not None:
            FLOAT.write(node, why)
    for node in _coordinates(graph):
        FLOAT.write(node, PLACES)
    for node in drawn_in(list(graph), _role, _makers, _readers, _is_tail, _is_light, _is_front, _is_fed):
        FLOAT.write(node, BETWEEN)
    for node in graph:
        if _is_before_function(node):
            FLOAT.write(node, BETWEEN)
    for node in list(graph):
        if is_marker(node) and attribute(node, "kind") == "weight":
            _float_weight(graph, node)
    fold_constants(graph)
    clean(model)


def _coordinates(graph: ir.Graph) -> list[ir.Node]:
    """What makes coordinates for GridSample and nothing else, the last one first."""
    found: dict[ir.Node, None] = {}
    for node in reversed(list(graph)):
        readers = _readers(node)
        if is_marker(node) or stays_float(node) or not is_op(node, "MatMul", *SOFT) or not readers:
            continue
        places = [use.idx == 1 for value in node.outputs for use in value.uses() if use.node.op_type == "GridSample"]
        if all(places) and all(reader in found or reader.op_type == "GridSample" for reader in readers):
            weights = [maker for maker in _makers(node) if is_marker(maker) and attribute(maker, "kind") == "weight"]
            if not weights:
                found[node] = None
    return list(found)


def _role(node: ir.Node) -> Role:
    if stays_float(node):
        return Role.OTHER if of_shapes(node) or is_wished(node) else Role.FLOAT  # float_clamps.py is for wishes
    if is_op(node, *ISLANDS):
        after = any(stays_float(maker) and not of_shapes(maker) for maker in _makers(node))
        return Role.FLOAT if after else Role.ISLAND
    return Role.SOFT if is_op(node, *SOFT) else Role.OTHER


def _makers(node: ir.Node) -> list[ir.Node]:
    return [maker for x in node.inputs if (maker := producer_of(x)) is not None and array_of(x) is None]


def _readers(node: ir.Node) -> list[ir.Node] | None:
    if any(value.is_graph_output() for value in node.outputs):
        return None
    return [reader for value in node.outputs for reader in data_readers(value)]


def _is_mask(node: ir.Node) -> bool:
    """A sum of tensors that a softmax reads: a mask has values that no grid shares with scores."""
    return _is_sum_before(node, SOFTMAX)


def _is_front(node: ir.Node) -> bool:
    """That, or a residual sum before a layer norm."""
    return _is_sum_before(node, (*SOFTMAX, *NORMS))


def _is_sum_before(node: ir.Node, readers: tuple[str, ...]) -> bool:
    alone = [array for x in node.inputs if (array := array_of(x)) is not None and array.size == 1]
    return is_op(node, "Add", "Sub") and not alone and any(is_op(r, *readers) for r in _readers(node) or ())


def _is_before_function(node: ir.Node) -> bool:
    """It moves accumulators of a Linear layer, and functions in float alone read them."""
    moves = is_op(node, *MOVES) and not stays_float(node) and is_op(producer_of(node.inputs[0]), "Gemm")
    return moves and bool(_readers(node)) and all(map(is_rectifier, _readers(node) or ()))


def _is_fed(node: ir.Node) -> bool:
    return any(x is not None and x.is_graph_input() for x in node.inputs)


def _never(node: ir.Node) -> bool:
    return False


def _is_light(node: ir.Node) -> bool:
    """But for what gives a Linear layer on tokens its shape: its accumulator needs no grid to become float."""
    return is_op(node, *MOVES, *CLAMPS) and not (is_op(node, *MOVES) and is_op(producer_of(node.inputs[0]), "Gemm"))


def _is_light_or_bias(node: ir.Node) -> bool:
    """At the front of a norm, what belongs to the layer before it as well: a bias, a batch norm.

    Other constants, as the positions of tokens, training adds in float.
    """
    return _is_light(node) or (_is_tail(node) and is_op(_makers(node)[0], *PRODUCTS))


def _is_tail(node: ir.Node) -> bool:
    return is_op(node, *TAILS) and len(_makers(node)) == sum(array_of(x) is None for x in node.inputs) == 1


def _float_weight(graph: ir.Graph, marker: ir.Node) -> None:
    """Operators that stay float, and what only moves a weight, get its trained values as a constant."""
    readers = [(use.node, use.idx) for use in marker.outputs[0].uses()]
    others = [(r, i) for r, i in readers if not (is_op(r, *LAYERS) and i == 1)]
    if not others or array_of(marker.inputs[0]) is None:
        return
    name = attribute(marker, "quantizer")
    inputs = [torch.from_numpy(constant_of(v, name).astype(np.float32)) for v in marker.inputs]
    value = constant(graph, f"{name}.float", fake_quantize(marker, inputs).numpy())
    for reader, index in others:
        reader.replace_input_with(index, value)


def fold_constants(graph: ir.Graph) -> None:
    """What constants alone decide becomes a constant, in the order of the graph."""
    for node in list(graph):
        x = node.inputs[0] if node.inputs else None
        fixed = all(v is None or array_of(v) is not None for v in node.inputs)
        made = node.outputs[0] if len(node.outputs) == 1 else None
        if x is None or made is None or not fixed or is_marker(node) or made.is_graph_output():
            continue
        if not made.uses() or not is_float(x) or not is_float(made):
            continue
        value = evaluate_node(node, torch.from_numpy(constant_of(x, str(node.name))), {}).numpy()
        replace(made, constant(graph, f"{made.name}.known", value))
