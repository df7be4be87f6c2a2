"""Gates in torch.fx's graph: x·σ(x) becomes two operators, so that σ(x) gets a grid of its own, as in integer kernels.

silu(x), hardswish(x)  =>  x · sigmoid(x), x · hardsigmoid(x)
glu(x)                 =>  a · sigmoid(b), with the halves a and b of x
"""

from __future__ import annotations

import operator

import torch
import torch.nn.functional as F
from torch import fx, nn

from .places import opened_place

GATES = ((nn.SiLU, F.silu, torch.sigmoid), (nn.Hardswish, F.hardswish, F.hardsigmoid))  # module, function, σ of x·σ(x)
PLACE = "place"  # in the meta of nodes that are a part of one of the model's own


def open_gate(model: fx.GraphModule, node: fx.Node) -> None:
    """Replace the node, if it is a gate."""
    module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, nn.GLU) or node.target is F.glu:
        (x,) = node.all_input_nodes
        given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", -1)
        _open(model, node, x, module.dim if isinstance(module, nn.GLU) else given, torch.sigmoid)
        return
    for kind, function, gate in GATES:
        if isinstance(module, kind) or node.target is function:
            (x,) = node.all_input_nodes
            _open(model, node, x, None, gate)
            return


def _open(model: fx.GraphModule, node: fx.Node, x: fx.Node, dim: object, gate: object) -> None:
    """dim: that of two halves, the second of which is the gate; None: there are none."""
    graph, place = node.graph, opened_place(model, node)
    with graph.inserting_before(node):
        value, opens = x, x
        if dim is not None:
            halves = graph.call_function(torch.chunk, (x, 2, dim))
            value, opens = (graph.call_function(operator.getitem, (halves, index)) for index in (0, 1))
        name = f"{node.name}_{getattr(gate, '__name__', 'gate')}"
        opened = graph.create_node("call_function", gate, (opens,), name=name)  # type: ignore[arg-type]
        product = graph.create_node("call_function", torch.mul, (value, opened), name=f"{node.name}_product")
    opened.meta[PLACE] = product.meta[PLACE] = place
    node.replace_all_uses_with(product)
    graph.erase_node(node)
