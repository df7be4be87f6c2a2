"""joined_constants: class tokens and other constants beside computed values are sums with padded values.

    Concat(Expand(c), x, y)    =>  Add(Pad(Concat(x, y)), [c, 0])            c [1, T, C], the same for the whole batch
    Add(x, Expand(c))          =>  Add(x, c)                                 likewise Mul, Sub and the like

Exact: x + 0 = x, and 0 + c = c. No shape has to be computed while the network runs. Part of the pass normalize.py.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch

from lsq_export.graph.edit import constant, insert, replace
from lsq_export.graph.float_grids import fake_quantize
from lsq_export.graph.read import array_of, attribute, graph_of, input_of, is_marker, maker_of, producer_of

BROADCAST = ("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub", "Where")


def sum_instead(node: ir.Node) -> bool:
    """Replace a Concat of computed values beside one another and of constants; returns whether it was one."""
    shape, axis = node.outputs[0].shape, attribute(node, "axis", 0)
    parts = [_once(repeated_constant(x), shape) for x in node.inputs]
    computed = [index for index, part in enumerate(parts) if part is None]
    if len(computed) in (0, len(parts)) or shape is None or not _in_a_row(computed):
        return False
    if any(part is not None and part.shape[:1] != (1,) for part in parts):
        return False  # of a batch that cannot vary
    axis %= len(shape)
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    if axis == 0 or len(sizes) != len(shape) - 1:
        return False
    arrays = [_whole(part, sizes, axis) for part in parts if part is not None]
    first, last = (sum(a.shape[axis] for a in group) for group in (arrays[: computed[0]], arrays[computed[0] :]))
    name, between = str(node.outputs[0].name), [1, *sizes]
    between[axis] -= first + last
    zeros = np.zeros(between, np.float32)
    beside = np.concatenate([*arrays[: computed[0]], zeros, *arrays[computed[0] :]], axis)
    x = _padded(node, _joined(node, computed, axis), axis, first, last)
    y = insert(node, "Add", [x, constant(graph_of(node), f"{name}.beside", beside)], f"{name}_beside", shape=shape)
    maker_of(y).name = node.name
    replace(node.outputs[0], y)
    return True


def drop_repetition(node: ir.Node) -> None:
    """Operands that are constants for each sample of the batch are constants; the operator repeats them by itself."""
    for index, x in enumerate(node.inputs):
        array = repeated_constant(x) if x is not None and array_of(x) is None else None
        ranks = {len(v.shape) for v in node.inputs if v is not None and v.shape is not None and array_of(v) is None}
        if array is not None and x is not None and len(ranks) == 1 and _fits(node, array):
            node.replace_input_with(index, constant(graph_of(node), f"{x.name}.once", array))


def repeated_constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of a constant, [1, …] if it is repeated for each sample of the batch; None of what is computed."""
    array, node = array_of(value), producer_of(value)
    if array is not None or node is None or value is None:
        return array
    if node.op_type == "Expand" and node.domain == "":
        array = array_of(node.inputs[0])
        shape = list(value.shape) if value.shape is not None else []
        sizes = [size for size in shape[1:] if isinstance(size, int)]
        if array is None or not shape or isinstance(shape[0], int) or len(sizes) < len(shape) - 1:
            return None
        array = array.reshape([1] * (len(shape) - array.ndim) + list(array.shape))
        return np.broadcast_to(array, [1, *sizes]) if len(array) == 1 else None
    if is_marker(node):
        array = repeated_constant(node.inputs[0])
        grid = [array_of(v) for v in node.inputs[1:]]
        if array is None or any(v is None for v in grid):
            return None
        inputs = [torch.from_numpy(np.array(v, np.float32)) for v in (array, *grid)]
        return np.asarray(fake_quantize(node, inputs).numpy())
    return None


def _once(array: np.ndarray | None, shape: ir.Shape | None) -> np.ndarray | None:
    """[1, …] of a constant [N, …] that a fixed batch of N > 1 repeats for each of its samples; others as they are."""
    repeated = array is not None and shape is not None and len(shape) == array.ndim and shape[0] == len(array) > 1
    return array[:1] if array is not None and repeated and bool((array == array[:1]).all()) else array


def _in_a_row(indices: list[int]) -> bool:
    return indices == list(range(indices[0], indices[-1] + 1))


def _whole(array: np.ndarray, sizes: list[int], axis: int) -> np.ndarray:
    shape = [1, *sizes]
    shape[axis] = array.shape[axis]
    return np.broadcast_to(array, shape)


def _fits(node: ir.Node, array: np.ndarray) -> bool:
    """Another operand brings the batch."""
    shape = node.outputs[0].shape
    others = [v for v in node.inputs if v is not None and repeated_constant(v) is None and v.shape is not None]
    ours = [v for v in others if len(v.shape or ()) == array.ndim and not isinstance((v.shape or [0])[0], int)]
    return shape is not None and len(shape) == array.ndim and bool(ours)


def _joined(node: ir.Node, computed: list[int], axis: int) -> ir.Value:
    values = [input_of(node, index) for index in computed]
    if len(values) == 1:
        return values[0]
    known = [v.shape[axis] if v.shape is not None else None for v in values]
    shape = list(node.outputs[0].shape or ())
    shape[axis] = sum(size for size in known if isinstance(size, int))
    return insert(node, "Concat", values, f"{node.outputs[0].name}_joined", shape=shape, axis=axis)


def _padded(node: ir.Node, x: ir.Value, axis: int, first: int, last: int) -> ir.Value:
    shape = list(node.outputs[0].shape or ())
    pads = np.zeros((2, len(shape)), np.int64)
    pads[:, axis] = first, last
    name, graph = f"{node.outputs[0].name}_padded", graph_of(node)
    inputs = [x, constant(graph, f"{name}.pads", pads.reshape(-1)), constant(graph, f"{name}.value", np.float32(0))]
    y = insert(node, "Pad", inputs, name, shape=shape)
    maker_of(y).attributes["mode"] = ir.AttrString("mode", "constant")
    return y
