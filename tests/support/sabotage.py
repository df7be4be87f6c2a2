"""Ways to damage an exported graph, for tests that check that verification notices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

Array = np.ndarray


@dataclass(frozen=True)
class Layer:
    """The constants of one convolution or Linear, by name.

    output_*: of the codes after it; where its accumulator is the network's output, that output's scale, and no zero
    point."""

    node: str
    weight: str
    weight_scale: str | None
    bias: str
    input_scale: str | None
    input_zero: str
    output_scale: str
    output_zero: str | None


def layers(proto: onnx.ModelProto) -> list[Layer]:
    """The layers of a qdq or qoperator file, in order."""
    made = {name: node for node in proto.graph.node for name in node.output}
    found = []
    for node in proto.graph.node:
        if node.op_type == "QLinearConv":
            x, _, xz, w, ws, _, ys, yz, b = node.input
            found.append(Layer(node.name, w, ws, b, node.input[1], xz, ys, yz))
        elif node.op_type == "MatMulInteger":
            add = reader(proto, node)
            out = reader(proto, add)
            found.append(Layer(node.name, node.input[1], None, add.input[1], None, node.input[2], out.input[1], None))
        elif node.op_type in ("Conv", "Gemm"):
            x, weight, bias = (made[name] for name in node.input)
            after = [n for n in proto.graph.node if node.output[0] in n.input]
            output = (after[0].input[1], after[0].input[2]) if after else (bias.input[1], None)
            found.append(
                Layer(node.name, weight.input[0], weight.input[1], bias.input[0], x.input[1], x.input[2], *output)
            )
    return found


def reader(proto: onnx.ModelProto, node: onnx.NodeProto) -> onnx.NodeProto:
    """The one node that reads a node's output."""
    (found,) = (n for n in proto.graph.node if node.output[0] in n.input)
    return found


def constants(proto: onnx.ModelProto) -> dict[str, Array]:
    return {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}


def change(proto: onnx.ModelProto, name: str, how: Callable[[Array], Array]) -> None:
    """One constant of the file, changed; shape and type stay."""
    (tensor,) = (t for t in proto.graph.initializer if t.name == name)
    before = numpy_helper.to_array(tensor)
    after = np.asarray(how(before.copy()))
    assert after.shape == before.shape and after.dtype == before.dtype and not np.array_equal(after, before), name
    tensor.CopyFrom(numpy_helper.from_array(after, name))


def doubled(array: Array) -> Array:
    return array * array.dtype.type(2)


def moved(array: Array) -> Array:
    """Every element by one, inside its type."""
    return array + array.dtype.type(1) if array.max() < np.iinfo(array.dtype).max else array - array.dtype.type(1)


def one_moved(array: Array) -> Array:
    """One element by one, inside its type."""
    index = np.unravel_index(array.size // 2, array.shape)
    array[index] = array[index] + 1 if array[index] < np.iinfo(array.dtype).max else array[index] - 1
    return array


def one_flipped(array: Array) -> Array:
    """The weight that is farthest from zero gets the other sign."""
    middle = 128 if array.dtype == np.uint8 else 0
    index = np.unravel_index(np.abs(array.astype(int) - middle).argmax(), array.shape)
    array[index] = np.clip(
        2 * middle - int(array[index]), *(int(x) for x in (np.iinfo(array.dtype).min, np.iinfo(array.dtype).max))
    )
    return array


def rows_swapped(array: Array) -> Array:
    """The first two channels (of a weight of a Linear in MatMulInteger, its columns)."""
    array[[0, 1]] = array[[1, 0]]
    return array


def columns_swapped(array: Array) -> Array:
    array[:, [0, 1]] = array[:, [1, 0]]
    return array


def set_attribute(
    proto: onnx.ModelProto, op_types: tuple[str, ...], name: str, how: Callable[[list[int]], list[int]]
) -> None:
    """An attribute of the last node of these types whose value changes."""
    for node in reversed(proto.graph.node):
        for attribute in node.attribute:
            if (
                node.op_type in op_types
                and attribute.name == name
                and how(list(attribute.ints)) != list(attribute.ints)
            ):
                attribute.ints[:] = how(list(attribute.ints))
                return
    raise AssertionError(f"no {op_types} with {name}")
