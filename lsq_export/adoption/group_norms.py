"""Group norms become what torch's exporter makes of them, in the operators of all operator sets:

    GroupNormalization(x; γ, β)  =>  Reshape(InstanceNormalization(Reshape(x, [N, groups, -1]))) · γ + β
    with a γ for each group      =>  Reshape(InstanceNormalization(Reshape(x, [N, groups, -1]); γ, β))

Operator sets 18 to 20 have a γ for each group, later ones for each channel; operator set 20, in which graphs are kept
here, calls the first form deprecated.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, insert, replace
from lsq_export.graph.read import array_of, attribute, maker_of

GROUP_NORM = "GroupNormalization"


def spell_group_norms(graph: ir.Graph) -> None:
    """Of all whose sizes and numbers are known; shapes have to be inferred before."""
    for node in [node for node in graph if node.op_type == GROUP_NORM and node.domain in ("", "ai.onnx")]:
        x, (gamma, beta) = node.inputs[0], (array_of(value) for value in node.inputs[1:3])
        sizes = list(x.shape) if x is not None and x.shape is not None else []
        known = [size for size in sizes[1:] if isinstance(size, int)]
        if len(sizes) > 2 and len(known) == len(sizes) - 1 and gamma is not None and beta is not None:
            _spell(graph, node, known, gamma, beta)


def _spell(graph: ir.Graph, node: ir.Node, sizes: list[int], gamma: np.ndarray, beta: np.ndarray) -> None:
    y, name, groups = node.outputs[0], str(node.name), int(attribute(node, "num_groups"))
    by_group = gamma.size == groups
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    scales = [
        constant(graph, f"{name}.{what}", array)
        for what, array in zip(("scale", "offset"), (gamma, beta) if by_group else (ones, zeros), strict=True)
    ]
    split = constant(graph, f"{name}.groups", np.array([0, groups, -1], np.int64))
    back = constant(graph, f"{name}.sizes", np.array([0, *sizes], np.int64))
    apart = insert(node, "Reshape", [node.inputs[0], split], f"{name}.apart", shape=None)
    epsilon = float(attribute(node, "epsilon", 1e-5))
    normed = insert(node, "InstanceNormalization", [apart, *scales], f"{name}.normed", shape=None, epsilon=epsilon)
    maker_of(normed).name = name
    value = insert(node, "Reshape", [normed, back], f"{name}.joined", shape=y.shape)
    if not by_group:
        for operator, what, array in (("Mul", "gamma", gamma), ("Add", "beta", beta)):
            by_channel = constant(graph, f"{name}.{what}", array.reshape(-1, *[1] * (len(sizes) - 1)))
            value = insert(node, operator, [value, by_channel], f"{name}.by_{what}", shape=y.shape)
    value.type = y.type
    replace(y, value)
