"""lsq_export/verification/altered.py: one line for each part of a file that the fold does not prescribe."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from lsq_export.verification.altered import altered_parts
from support.onnx_files import F32, U8, build, node


def file() -> onnx.ModelProto:
    nodes = [node("QuantizeLinear", "x s z", "q", name="first"), node("DequantizeLinear", "q s z", "y", name="last")]
    return build(nodes, s=F32(0.5), z=U8(3))


def constant(proto: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in proto.graph.initializer if tensor.name == name)


def replaced(proto: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    constant(proto, name).CopyFrom(numpy_helper.from_array(array, name))


def renamed(proto: onnx.ModelProto) -> None:
    constant(proto, "s").name = "t"


def other_operator(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].op_type = "Relu"


def one_node_more(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(node("Relu", "y", "w", name="more"))


def another_batch(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 12


def another_version(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version += 1


def a_function(proto: onnx.ModelProto) -> None:
    proto.functions.add()


def test_the_prescribed_file_has_none() -> None:
    assert altered_parts(file(), file()) == ()


@pytest.mark.parametrize(
    ("damage", "lines"),
    [
        (lambda proto: replaced(proto, "s", F32(1)), ("constant s differs from the fold in 1 of 1 values",)),
        (lambda proto: replaced(proto, "z", np.int8(3)), ("constant z is int8[], the fold prescribes uint8[]",)),
        (
            lambda proto: replaced(proto, "s", np.ones(2, F32)),
            ("constant s is float32[2], the fold prescribes float32[]",),
        ),
        (renamed, ("constant s is missing", "constant t is not prescribed by the fold")),
        (other_operator, ("node first (Relu) is not as the fold prescribes",)),
        (one_node_more, ("the graph has 3 nodes, the fold prescribes 2",)),
        (another_batch, ("the file's inputs are not as the fold prescribes",)),
        (another_version, ("the file's versions are not as the fold prescribes",)),
        (a_function, ("the file's functions are not as the fold prescribes",)),
    ],
)
def test_every_part_is_named(damage: Callable[[onnx.ModelProto], None], lines: tuple[str, ...]) -> None:
    altered = file()
    damage(altered)
    assert altered_parts(altered, file()) == lines


def test_what_a_file_says_about_its_producer_is_no_part() -> None:
    other = file()
    other.producer_name = other.doc_string = "somebody"
    assert altered_parts(other, file()) == ()
