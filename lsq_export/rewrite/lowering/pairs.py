"""pairs: products and sums of two tensors of 8-bit codes, as `Product0` … and `Sum0` … of our library (joined.py).

    QLinearMul(gate [N, 1, 1, C], x [N, H, W, C])  =>  Product0(x, gate, …)
    QLinearAdd(x [N, H, W, C], c [1, 1, 1, C])     =>  Sum0(x, c, …)

The kernels repeat the codes of a gate, or of a constant, for all pixels. Without the library a gate of images is copied
to all pixels first, as in `qoperator` files (tile_gates.py), by an input that our kernels ignore.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant
from lsq_export.graph.read import array_of, graph_of
from lsq_export.kernels import PRODUCTS, SUMS

from .joined import BEFORE, CODES, Head

NAMES = {"QLinearMul": PRODUCTS, "QLinearAdd": SUMS}


def pair(node: ir.Node) -> Head | None:
    """A product or a sum, in a channels-last graph; None for anything else."""
    if node.op_type not in NAMES or len(node.inputs) != 8:
        return None
    a, b = node.inputs[0], node.inputs[3]
    if a is None or b is None or not (_is_codes(a) and _is_codes(b)) or all(array_of(x) is not None for x in (a, b)):
        return None
    swapped = not _is_same_shape(a, b) and not _is_gate(b, a)
    if swapped and (node.op_type == "QLinearAdd" or not _is_gate(a, b)):  # the operands of a sum are not alike
        return None
    numbers = [node.inputs[place] for place in ((4, 5, 1, 2, 6, 7) if swapped else (1, 2, 4, 5, 6, 7))]
    constants = [x for x in numbers if x is not None and (array := array_of(x)) is not None and array.size == 1]
    if len(constants) != len(numbers):
        return None
    image, other = (b, a) if swapped else (a, b)  # the pixels come first: products are the same either way
    repeats = _repeats(other, image) if node.op_type == "QLinearMul" and not _is_same_shape(a, b) else None
    if repeats is None:
        return Head(node, NAMES[node.op_type], [image, other], constants, (0, 2, 3, 1, 4, 5, 6, 7))
    copies = constant(graph_of(node), f"{node.name}.repeats", repeats)
    tile = ir.Node("", "Tile", [None, None])  # what it reads in the function is said by its places
    inputs = (0, 2, 3, BEFORE, 4, 5, 6, 7)
    return Head(node, PRODUCTS, [image, other], [*constants, copies], inputs, before=[(tile, (1, 8))])


def _repeats(gate: ir.Value, image: ir.Value) -> np.ndarray | None:
    """How often a gate [N, 1, 1, C] has to be repeated for images, where the graph fixes their sizes."""
    sizes = _known(image)
    if len(sizes) != 3 or _known(gate)[1:] != [1, 1] or sizes[1:] == [1, 1]:
        return None
    return np.array([1, sizes[2], sizes[1], 1], np.int64)


def _is_codes(x: ir.Value) -> bool:
    return x.dtype in CODES and x.shape is not None


def _is_same_shape(a: ir.Value, b: ir.Value) -> bool:
    """Equal, but for the batch. With one channel ONNX Runtime swaps the operands, which are not alike in sums."""
    first, second = _known(a), _known(b)
    return first == second and bool(first) and None not in first and first[0] != 1


def _known(x: ir.Value) -> list[int | None]:
    """The sizes of all axes but the first, in reverse order."""
    assert x.shape is not None
    return [size if isinstance(size, int) else None for size in list(x.shape)[:0:-1]]


def _is_gate(gate: ir.Value, image: ir.Value) -> bool:
    """[N, 1, …, 1, C] beside [N, …, C], or a constant [1, …, 1, C]."""
    first, second = _known(gate), _known(image)
    if len(first) != len(second) or not first or None in second or array_of(image) is not None:
        return False
    array = array_of(gate)
    if len(first) < 2 if array is None else len(array) != 1:
        return False
    return first[0] == second[0] != 1 and all(size == 1 for size in first[1:])
