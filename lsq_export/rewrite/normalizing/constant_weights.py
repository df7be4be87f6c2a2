"""constant_weights: what constants alone decide is computed once, weights above all.

    Div(Sub(W, mean(W)), std(W))        =>  W'                      standardized weights, whatever the operators
    FakeQuantize(Mul(v, g / |v|), s)    =>  FakeQuantize(W', s)     weight norm, spectral norm
    Trilu(ConstantOfShape(…))           =>  a constant              masks

Grids of trained weights stay where they are. Exact: computed in float32, as the graph would.
"""

from __future__ import annotations

import onnx_ir as ir

from lsq_export.graph.edit import clean, constant, replace
from lsq_export.graph.evaluate import results_of
from lsq_export.graph.read import array_of, is_marker
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless

RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")


def fold_constants(model: ir.Model) -> None:
    """Replace every node that reads constants alone; their results are new constants."""
    graph = model.graph
    for node in list(graph):
        if _is_constant(node):
            for value, result in zip(node.outputs, results_of(node), strict=False):
                if value.uses():
                    replace(value, constant(graph, str(value.name), result.numpy()))
    clean(model)


def _is_constant(node: ir.Node) -> bool:
    known = [array_of(value) is not None for value in node.inputs if value is not None]
    inner = any(
        attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in node.attributes.values()
    )
    outside = any(value.is_graph_output() for value in node.outputs)
    return (
        bool(known)
        and all(known)
        and not (is_marker(node) or node.op_type in RANDOM or inner or outside or node.domain)
    )


PASS = Pass("constant_weights", stateless(fold_constants), Keeps.VALUES)
