"""Notes: typed facts that survive copies and serialization, and leave files for runtimes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from lsq_export.graph.edit import copy
from lsq_export.graph.notes import BITS, FACTOR, PARTS, PASSED, Part, strip
from lsq_export.rewrite.emit import serialize
from support.networks import hand_made


def model() -> ir.Model:
    nodes = [helper.make_node("Relu", ["x"], ["h"], "first"), helper.make_node("Add", ["h", "c"], ["y"], "second")]
    return hand_made(nodes, {"c": np.float32(1)}, ("batch", 3))


def test_facts_come_back_with_their_types() -> None:
    graph = model().graph
    parts = (Part(quantizer="a:b c", channels=3, scale=0.1), Part(quantizer="d", channels=5, scale=1 / 3))
    BITS.write(graph[0].outputs[0], 4)
    FACTOR.write(graph[0], 1 / 3)
    PARTS.write(graph[1], parts)
    PASSED.write(graph[0], ("b.input", "a.input"))
    again = copy(ir.Model(graph, ir_version=10)).graph
    assert BITS.read(again[0].outputs[0]) == 4 and FACTOR.read(again[0]) == 1 / 3
    assert PARTS.read(again[1]) == parts and PASSED.read(again[0]) == ("b.input", "a.input")


def test_a_fact_that_nobody_noted() -> None:
    node = model().graph[0]
    assert not FACTOR.on(node) and FACTOR.get(node, 2.0) == 2.0
    with pytest.raises(KeyError):
        FACTOR.read(node)
    FACTOR.write(node, 3.0)
    FACTOR.write(node, 4.0)
    assert FACTOR.on(node) and FACTOR.get(node, 2.0) == 4.0


@pytest.mark.parametrize("notes", [True, False])
def test_only_reference_graphs_keep_notes(notes: bool) -> None:
    noted = model()
    FACTOR.write(noted.graph[0], 3.0)
    noted.graph[0].metadata_props["pkg.torch.stack_trace"] = "/home/somebody"
    written = ir.from_proto(serialize(noted, 17, "name", notes=notes))
    assert FACTOR.get(written.graph[0], 1.0) == (3.0 if notes else 1.0)
    assert "pkg.torch.stack_trace" not in written.graph[0].metadata_props
    assert noted.graph[0].metadata_props["pkg.torch.stack_trace"] == "/home/somebody"  # the model itself stays


def test_strip_removes_doc_strings() -> None:
    noted = model()
    noted.graph.doc_string = noted.graph[0].doc_string = "of the exporter"
    strip(noted)
    assert not noted.graph.doc_string and not noted.graph[0].doc_string
