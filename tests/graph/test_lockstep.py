"""lsq_export/graph/lockstep.py: what is handed on reaches every reader, and no difference hides behind another one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper

from lsq_export.graph.lockstep import Made, keep, run


def graph(second: str = "Identity") -> ir.Graph:
    """x -> Relu a -> `second` b; a + b = y."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node(second, ["a"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in ("x", "y"))
    return ir.from_proto(helper.make_model(helper.make_graph(nodes, "g", [x], [y]))).graph


X = np.array([-1.0, 0.5, 2.0])


def test_what_was_made_and_what_it_was_made_of() -> None:
    met: list[Made] = []
    (y,) = run(graph(), X, dict.fromkeys(("a", "y"), met.append))
    assert [(made.name, made.node.op_type) for made in met] == [("a", "Relu"), ("y", "Add")]
    assert met[0].read.tolist() == [-1, 0.5, 2] and met[0].value.tolist() == [0, 0.5, 2]
    assert met[1].read.tolist() == [0, 0.5, 2] and met[1].value.tolist() == y.tolist() == [0, 1, 4]


def test_what_is_handed_on_reaches_all_readers_in_the_type_of_the_run() -> None:
    met: list[Made] = []
    (y,) = run(graph(), X, {"a": lambda made: torch.full_like(made.value, 3).float(), "b": met.append})
    assert y.tolist() == [6, 6, 6] and y.dtype == met[0].read.dtype == torch.float64
    assert met[0].read.tolist() == [3, 3, 3]
    (y,) = run(graph(), X, {"y": lambda made: -made.value})
    assert y.tolist() == [0, -1, -4]


def test_a_run_in_float32() -> None:
    assert run(graph(), X, {}, dtype=torch.float32)[0].dtype == torch.float32


def test_keep_gives_the_tensors_that_the_graph_makes() -> None:
    (y,), kept = keep(graph(), X, ["b", "a", "x", "elsewhere"])
    assert y.tolist() == [0, 1, 4] and list(kept) == ["a", "b"]
    assert kept["a"].tolist() == kept["b"].tolist() == [0, 0.5, 2]


@pytest.mark.parametrize("handed_on", [False, True])
def test_a_difference_shows_where_it_is_made_alone(handed_on: bool) -> None:
    """The second operator of one run is another one: without handing on, the sum differs as well."""
    names = ("a", "b", "y")
    _, kept = keep(graph(), X, names)
    differing: list[str] = []

    def compare(made: Made) -> torch.Tensor | None:
        if not torch.equal(made.value, kept[made.name]):
            differing.append(made.name)
        return kept[made.name] if handed_on else None

    run(graph("Sigmoid"), X, dict.fromkeys(names, compare))
    assert differing == (["b"] if handed_on else ["b", "y"])


def test_every_output_of_a_node_is_met_by_its_own_name() -> None:
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[4])
    count = ir.val("k", const_value=ir.tensor(np.array([2]), name="k"))
    ends = [ir.val("largest", dtype=ir.DataType.FLOAT), ir.val("places", dtype=ir.DataType.INT64)]
    top = ir.node("TopK", [x, count], {"axis": 0}, outputs=ends, name="top")
    both = ir.Graph([x], ends, nodes=[top], initializers=[count], opset_imports={"": 20}, name="g")
    _, kept = keep(both, np.array([1.0, 9.0, 4.0, 2.0]), ["largest", "places"])
    assert kept["largest"].tolist() == [9, 4] and kept["places"].tolist() == [1, 2]
