"""lsq_export.graph.edit: a copy is of its own but for the numbers of constants."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant, copy, insert, replace
from lsq_export.graph.notes import SOURCE
from lsq_export.graph.read import array_of


def model() -> ir.Model:
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[None, 3])
    node = ir.node("Relu", [x], outputs=[ir.val("y", dtype=ir.DataType.FLOAT, shape=[None, 3])], name="relu")
    graph = ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 20}, name="g")
    node.replace_input_with(0, insert(node, "Add", [x, constant(graph, "c", np.ones(3, np.float32))], "sum"))
    SOURCE.write(node, "net.py:3")
    return ir.Model(graph, ir_version=10)


def test_a_copy_is_independent() -> None:
    original = model()
    proto = ir.to_proto(original)
    copied = copy(original)
    assert ir.to_proto(copied) == proto
    graph = copied.graph
    relu = next(node for node in graph if node.op_type == "Relu")
    SOURCE.write(relu, "net.py:4")
    relu.outputs[0].shape = ir.Shape([None, 4])
    replace(graph.initializers["c"], constant(graph, "d", np.zeros(3, np.float32)))
    graph.inputs[0].name = "other"
    clean(copied)
    assert ir.to_proto(original) == proto and ir.to_proto(copied) != proto


def test_a_copy_shares_the_numbers_of_constants() -> None:
    original = model()
    ours, theirs = (array_of(one.graph.initializers["c"]) for one in (original, copy(original)))
    assert ours is not None and theirs is not None and np.shares_memory(ours, theirs)
