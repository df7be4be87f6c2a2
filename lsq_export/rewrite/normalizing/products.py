"""products: every Gemm that is no Linear, and Einsum, are matrix products.

    Gemm(x, W, b; alpha, beta)         =>  Add(Mul(Gemm(x, W), alpha), beta · b)          (W the weight of a Linear)
    Gemm(x, Transpose(W))              =>  Gemm(x, W)                                     the same
    Gemm(x, y, c), x, y computed       =>  Add(Mul(MatMul(x, y), alpha), Mul(c, beta))
    Einsum(x, y)                       =>  Transpose(Reshape(MatMul(Reshape(Transpose(x)), Reshape(Transpose(y)))))

All of these are exact: factors and constants go into the layer, or relabel grids. Part of the pass normalize.py.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, insert, replace
from lsq_export.graph.read import array_of, attribute, graph_of, input_of, is_marker, is_op, maker_of, producer_of


def plain_gemm(node: ir.Node) -> None:
    """Replace a Gemm, unless it is a Linear already."""
    weight = _trained(node)
    usual = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    if weight is not None and weight is node.inputs[1] and all(attribute(node, k, v) == v for k, v in usual.items()):
        return
    x, name = input_of(node), str(node.outputs[0].name)
    if attribute(node, "transA", 0):
        x = _turned(node, x, f"{name}_a")
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    shape = node.outputs[0].shape
    if weight is not None:
        into = [bias] if bias is not None and array_of(bias) is not None and alpha == beta == 1 else []
        y = insert(node, "Gemm", [x, weight, *into], f"{name}_product", shape=shape, transB=1)
        bias = None if into else bias
    else:
        other = input_of(node, 1)
        other = _turned(node, other, f"{name}_b") if attribute(node, "transB", 0) else other
        y = insert(node, "MatMul", [x, other], f"{name}_product", shape=shape)
    maker_of(y).name = node.name
    y = _scaled(node, y, alpha, f"{name}_scaled")
    if bias is not None:
        y = insert(node, "Add", [y, _scaled(node, bias, beta, f"{name}_bias")], f"{name}_sum", shape=shape)
        maker_of(y).name = f"{node.name}.Add"
    replace(node.outputs[0], y)


def _trained(node: ir.Node) -> ir.Value | None:
    """W [C_out, C_in] of a product with the weight of a Linear; None of any other."""
    weight, turned = node.inputs[1], not attribute(node, "transB", 0)
    turn = producer_of(weight)
    if turned and is_op(turn, "Transpose") and turn is not None and list(attribute(turn, "perm", [1, 0])) == [1, 0]:
        weight, turned = turn.inputs[0], False
    marker = producer_of(weight)
    trained = not turned and marker is not None and is_marker(marker) and attribute(marker, "kind") == "weight"
    return weight if trained else None


def _turned(node: ir.Node, x: ir.Value, name: str) -> ir.Value:
    array = array_of(x)
    if array is not None:
        return constant(graph_of(node), name, array.T)
    shape = list(reversed(x.shape)) if x.shape is not None else None
    return insert(node, "Transpose", [x], name, shape=shape, perm=[1, 0])


def _scaled(node: ir.Node, x: ir.Value, factor: float, name: str) -> ir.Value:
    """x · factor."""
    if factor == 1:
        return x
    array, graph = array_of(x), graph_of(node)
    if array is not None:
        return constant(graph, name, (array * factor).astype(array.dtype))
    return insert(node, "Mul", [x, constant(graph, f"{name}.factor", np.float32(factor))], name, shape=x.shape)


def einsum(node: ir.Node) -> ir.Value | None:
    """What takes the place of an Einsum of two tensors; None where it is no matrix product."""
    found = _labels(node)
    if found is None:
        return None
    (a, b), out = found
    sizes = _sizes(node, [a, b])
    if sizes is None or len({*a}) < len(a) or len({*b}) < len(b):
        return None
    both = [label for label in a if label in b and label in out]
    summed = [label for label in a if label in b and label not in out]
    left, right = ([label for label in own if label not in other] for own, other in ((a, b), (b, a)))
    if any(label not in out for label in (*left, *right)):
        return None
    name = str(node.outputs[0].name)
    x = _arranged(node, 0, a, [both, left, summed], sizes, f"{name}_a")
    y = _arranged(node, 1, b, [both, summed, right], sizes, f"{name}_b")
    shape = [*(sizes[label] for label in both), _size(left, sizes), _size(right, sizes)]
    product = insert(node, "MatMul", [x, y], f"{name}_product", shape=shape)
    maker_of(product).name = node.name
    order = [*both, *left, *right]
    apart = _reshaped(node, product, [sizes[label] for label in order], f"{name}_apart")
    perm = [order.index(label) for label in out]
    if perm == list(range(len(perm))):
        return apart
    return insert(node, "Transpose", [apart], f"{name}_turned", shape=node.outputs[0].shape, perm=perm)


def _labels(node: ir.Node) -> tuple[tuple[list[str], list[str]], list[str]] | None:
    """The labels of both inputs and of the output."""
    equation = str(attribute(node, "equation")).replace(" ", "")
    if "->" not in equation or "." in equation or len(node.inputs) != 2:
        return None
    inputs, out = equation.split("->")
    a, b = inputs.split(",")
    return (list(a), list(b)), list(out)


def _sizes(node: ir.Node, labels: list[list[str]]) -> dict[str, int | str] | None:
    """{label: size}, "batch" for the one that varies; None where others do, or sizes are repeated."""
    sizes: dict[str, int | str] = {}
    for value, own in zip(node.inputs, labels, strict=True):
        if value is None or value.shape is None or len(value.shape) != len(own):
            return None
        for label, size in zip(own, value.shape, strict=True):
            known = size if isinstance(size, int) else "batch"
            if sizes.setdefault(label, known) != known:
                return None
    return sizes if sum(size == "batch" for size in sizes.values()) <= 1 else None


def _size(labels: list[str], sizes: dict[str, int | str]) -> int | None:
    numbers = [size for label in labels if isinstance(size := sizes[label], int)]
    return prod(numbers) if len(numbers) == len(labels) else None


def _arranged(
    node: ir.Node, index: int, own: list[str], groups: list[list[str]], sizes: dict[str, int | str], name: str
) -> ir.Value:
    """[both…, product of the second group, product of the third]"""
    x, order = input_of(node, index), [label for group in groups for label in group]
    perm = [own.index(label) for label in order]
    array = array_of(x)
    if perm != list(range(len(perm))):
        if array is not None:
            x = constant(graph_of(node), name, array.transpose(perm))
        else:
            x = insert(node, "Transpose", [x], name, shape=[_plain(sizes[label]) for label in order], perm=perm)
    both, *rest = groups
    whole: list[int | str] = [sizes[label] for label in both]
    for group in rest:
        whole.append("batch" if _size(group, sizes) is None else _size(group, sizes) or 1)
    return _reshaped(node, x, whole, f"{name}_rows")


def _plain(size: int | str) -> int | None:
    return size if isinstance(size, int) else None


def _reshaped(node: ir.Node, x: ir.Value, sizes: list[int | str], name: str) -> ir.Value:
    shape, array = [size if isinstance(size, int) else -1 for size in sizes], array_of(x)
    if x.shape is not None and len(x.shape) == len(shape) and _same(x, shape):
        return x
    if array is not None:
        return constant(graph_of(node), name, array.reshape(shape))
    target = constant(graph_of(node), f"{name}.shape", np.array(shape, np.int64))
    return insert(node, "Reshape", [x, target], name, shape=[_plain(size) for size in sizes])


def _same(x: ir.Value, shape: list[int]) -> bool:
    assert x.shape is not None
    return all(
        size == wanted or (wanted == -1 and not isinstance(size, int))
        for size, wanted in zip(x.shape, shape, strict=True)
    )
