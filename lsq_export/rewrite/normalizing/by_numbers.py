"""by_numbers: functions that are written out become the one operator that they are, however they are written.

    Div(Sub(x, ReduceMean(x)), Sqrt(…)), E(x²) - E(x)², …          =>  LayerNormalization(x, γ, β)      any axis
    Div(Exp(Sub(x, ReduceMax(x))), ReduceSum(Exp(…)))              =>  Softmax(x)
    Mul(x, Mul(0.5, Add(1, Tanh(… x³ …))))                         =>  Gelu(x, approximate="tanh")
    Expand(x, shape of x)                                          =>  x

What lies between x and a result is computed on random numbers, and compared with the operator. Its parts would get
grids of 8 bits otherwise: x³ on one of which nearly all values are 0, and a variance as the difference of two numbers
that are nearly equal. Exact, but for float32. Part of the pass normalize.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F

from lsq_export.graph.edit import constant, insert, replace
from lsq_export.graph.evaluate import evaluate_node
from lsq_export.graph.notes import FLOAT
from lsq_export.graph.read import array_of, constant_of, data_readers, is_float, is_marker, is_op, maker_of

from .float_islands import BETWEEN

DEEPEST = 16  # operators between x and a result
TRIED = 4  # values that may be x
ROWS = 8  # samples
NOTHING = 1e-6  # by so much a fitted factor misses 1, and a shift 0, where there is none
NEAR = 1e-4  # of the largest value: constants of other makers have fewer digits, such as 0.7979
Tensor = torch.Tensor


def recognize(graph: ir.Graph) -> None:
    """Replace what is recognized."""
    for node in list(graph):
        if is_op(node, "Expand") and _is_idle(node):
            replace(node.outputs[0], node.inputs[0])  # type: ignore[arg-type]
    for node in list(graph):
        if node.graph is None or not node.outputs[0].uses():
            continue
        if is_op(node, "Tanh"):
            _replace(graph, node, _gelu)
        elif is_op(node, "Sqrt") or (is_op(node, "Pow") and _number(node.inputs[1]) in (0.5, -0.5)):
            _replace(graph, node, _layer_norm)
        elif is_op(node, "Exp"):
            _replace(graph, node, _softmax)


def _is_idle(node: ir.Node) -> bool:
    x, y = node.inputs[0], node.outputs[0]
    if x is None or x.shape is None or y.shape is None or array_of(x) is not None or y.is_graph_output():
        return False
    sizes, after = list(x.shape), list(y.shape)
    alike = len(sizes) == len(after) and sizes[1:] == after[1:]
    if not sizes or not alike or not all(isinstance(n, int) for n in sizes[1:]):
        return False
    return sizes[0] == after[0] or not (isinstance(sizes[0], int) or isinstance(after[0], int))  # both: the batch


def _replace(graph: ir.Graph, root: ir.Node, match) -> None:  # type: ignore[no-untyped-def]
    """match(x, numbers, what they become, end) makes the operator at the end, or returns None."""
    for x in _sources(root):
        numbers = _numbers(x)
        if numbers is None or _computed(root.outputs[0], x, numbers) is None:
            continue
        for end in _ends(root):
            shape = list(end.outputs[0].shape) if end.outputs[0].shape is not None else None
            if x.shape is None or shape is None or shape[1:] != list(x.shape)[1:]:
                continue
            found = _computed(end.outputs[0], x, numbers)
            made = None if found is None else match(graph, x, numbers, found, end)
            if made is not None:
                maker_of(made).name = root.name
                replace(end.outputs[0], made)
                return


def _gelu(graph: ir.Graph, x: ir.Value, numbers: Tensor, found: Tensor, end: ir.Node) -> ir.Value | None:
    if not _near(found, F.gelu(numbers, approximate="tanh")):
        return None
    return insert(end, "Gelu", [x], f"{end.outputs[0].name}_gelu", shape=end.outputs[0].shape, approximate="tanh")


def _softmax(graph: ir.Graph, x: ir.Value, numbers: Tensor, found: Tensor, end: ir.Node) -> ir.Value | None:
    if not _near(found, numbers.softmax(-1)):
        return None
    return insert(end, "Softmax", [x], f"{end.outputs[0].name}_softmax", shape=end.outputs[0].shape, axis=-1)


def _layer_norm(graph: ir.Graph, x: ir.Value, numbers: Tensor, found: Tensor, end: ir.Node) -> ir.Value | None:
    """Over any axis, with factors and shifts along any other; these are fitted, and ε is the constant that fits."""
    large, small = numbers * 16, numbers * 1e-2  # beside which ε is nothing, and with which it is seen
    by_large = _computed(end.outputs[0], x, large)
    if by_large is None or not torch.isfinite(found).all():
        return None
    for axis in reversed(range(1, numbers.dim())):
        for along in reversed(range(1, numbers.dim())):
            if not _near(by_large, _fitted(_normalized(large, axis, 0.0), by_large, along)[0]):
                continue
            wanted = _computed(end.outputs[0], x, small)
            if wanted is None:
                return None
            tried = {e: _fitted(_normalized(small, axis, e), wanted, along)[0] for e in _epsilons(end, x)}
            epsilon = min(tried, key=lambda e: float((tried[e] - wanted).abs().max()))
            _, factor, shift = _fitted(_normalized(large, axis, epsilon), by_large, along)
            return _as_norm(graph, x, end, (axis, along, epsilon), (factor, shift))
    return None


def _as_norm(
    graph: ir.Graph, x: ir.Value, end: ir.Node, form: tuple[int, int, float], affine: tuple[Tensor, Tensor]
) -> ir.Value:
    """LayerNormalization, of x with its axes turned where it is not over the last one."""
    axis, along, epsilon = form
    rank, name, shape = len(list(x.shape or ())), f"{end.outputs[0].name}_norm", end.outputs[0].shape
    arrays = [v.numpy().astype(np.float32) for v in affine]
    turn = [place for place in range(rank) if place != axis] + [axis]
    sizes = list(x.shape or ())
    plain = along == axis == rank - 1
    size = sizes[axis]
    ones = np.ones(size if isinstance(size, int) else 1, np.float32)
    inside = arrays if plain else [ones, np.zeros_like(ones)]
    values = [constant(graph, f"{name}.{what}", a) for what, a in zip(("factor", "shift"), inside, strict=True)]
    turned = [sizes[place] for place in turn]
    if axis != rank - 1:
        x = insert(end, "Transpose", [x], f"{name}_turned", shape=turned, perm=turn)
    y = insert(end, "LayerNormalization", [x, *values], name, shape=turned, axis=-1, epsilon=float(epsilon))
    factor, shift = arrays
    after = {} if plain else {"Mul": (factor, np.ones_like(factor)), "Add": (shift, np.zeros_like(shift))}
    after = {op_type: pair for op_type, pair in after.items() if not np.allclose(*pair, rtol=0, atol=NOTHING)}
    if axis != rank - 1:
        y = insert(end, "Transpose", [y], f"{name}_back", shape=shape, perm=[turn.index(p) for p in range(rank)])
        if after:
            FLOAT.write(maker_of(y), BETWEEN)
    for op_type, (array, _) in after.items():
        number = constant(graph, f"{name}.{op_type}", array.reshape([-1 if p == along else 1 for p in range(rank)]))
        y = insert(end, op_type, [y, number], f"{name}_{op_type}", shape=shape)
        FLOAT.write(maker_of(y), BETWEEN)
    return y


def _normalized(x: Tensor, axis: int, epsilon: float) -> Tensor:
    return F.layer_norm(x.movedim(axis, -1), (x.shape[axis],), eps=epsilon).movedim(-1, axis)


def _fitted(x: Tensor, y: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """(factor·x + shift, factor, shift) with one of each at each place of the axis: the least squared error to y."""
    if x.shape != y.shape:
        return x, x, x
    a, b = (v.movedim(axis, -1).reshape(-1, v.shape[axis]) for v in (x, y))
    centered = a - a.mean(0)
    factor = (centered * b).sum(0) / centered.square().sum(0).clamp(min=1e-30)
    shift = b.mean(0) - factor * a.mean(0)
    return (a * factor + shift).reshape(x.movedim(axis, -1).shape).movedim(-1, axis), factor, shift


def _epsilons(end: ir.Node, x: ir.Value) -> list[float]:
    """Small constants between x and the end, and none."""
    found, front = {0.0}, [end]
    for _ in range(DEEPEST):
        front = [v.producer() for n in front for v in n.inputs if v is not None and v is not x and v.producer()]  # type: ignore[misc]
        for node in front:
            found.update(e for v in node.inputs if (e := _number(v)) is not None and 0 < e < 0.1)
    return sorted(found)


def _near(found: Tensor, wanted: Tensor) -> bool:
    return found.shape == wanted.shape and float((found - wanted).abs().max()) <= NEAR * float(wanted.abs().max())


def _numbers(x: ir.Value) -> Tensor | None:
    """Random numbers in the shape of x; None where that is not known, or there is no row to compare."""
    shape = list(x.shape) if x.shape is not None else []
    sizes = [size for size in shape[1:] if isinstance(size, int) and size > 0]
    if not sizes or len(sizes) != len(shape) - 1 or sizes[-1] == 1:
        return None
    batch = shape[0] if isinstance(shape[0], int) else ROWS
    random = torch.Generator().manual_seed(0)
    return 1 + 2 * torch.randn(batch, *sizes, dtype=torch.float64, generator=random)


def _sources(root: ir.Node) -> Iterator[ir.Value]:
    """Values before the root that are read more than once, the nearest first."""
    seen: dict[ir.Value, None] = {}
    front = [v for v in root.inputs if v is not None]
    for _ in range(DEEPEST):
        before: list[ir.Value] = []
        for value in front:
            if value in seen or array_of(value) is not None or not is_float(value):
                continue
            seen[value] = None
            node = value.producer()
            before += [v for v in node.inputs if v is not None] if node is not None and not is_marker(node) else []
        front = before
    yield from [value for value in seen if len(data_readers(value)) > 1][:TRIED]


def _ends(root: ir.Node) -> list[ir.Node]:
    """Operators after the root, the furthest first; where the outside looks, nothing lies behind."""
    found: dict[ir.Node, None] = {}
    front = [root]
    for _ in range(DEEPEST // 2):
        after = [r for node in front if not node.outputs[0].is_graph_output() for r in data_readers(node.outputs[0])]
        front = [node for node in after if node not in found and not is_marker(node) and node.domain == ""]
        found.update(dict.fromkeys(front))
    return list(reversed(found))


def _computed(value: ir.Value, x: ir.Value, numbers: Tensor) -> Tensor | None:
    """The value with these numbers in place of x; None where other tensors go into it."""
    known: dict[ir.Value, Tensor] = {x: numbers}
    return known[value] if _compute(value, known, 0) else None


def _compute(value: ir.Value, known: dict[ir.Value, Tensor], depth: int) -> bool:
    if value in known:
        return True
    array, node = array_of(value), value.producer()
    if array is not None:
        known[value] = torch.from_numpy(np.asarray(array).copy())
        if known[value].is_floating_point():
            known[value] = known[value].double()
        return True
    if node is None or depth > 2 * DEEPEST or node.domain != "" or len(node.outputs) != 1 or not is_float(value):
        return False
    if any(a.value is None or isinstance(a.value, ir.Graph) for a in node.attributes.values()):
        return False
    given = [v for v in node.inputs if v is not None]
    if not given or not all(_compute(v, known, depth + 1) for v in given):
        return False
    inputs = {index: known[v] for index, v in enumerate(node.inputs) if v is not None and index}
    try:
        known[value] = evaluate_node(node, known[given[0]], inputs).double()
    except (RuntimeError, ValueError, AssertionError, IndexError):  # sizes that hold for another batch alone
        return False
    return True


def _number(value: ir.Value | None) -> float | None:
    """A constant that is one number."""
    array = array_of(value)
    one = array is not None and array.size == 1 and array.dtype.kind == "f"
    return float(constant_of(value, "a number").reshape(())) if one else None
