"""Calls in torch.fx's graph that the fold computes in parts: these get grids of their own.

silu(x), hardswish(x), glu(x)               =>  x · σ(x)                                  (gates.py)
scaled_dot_product_attention(q, k, v)       =>  softmax(mask(q · s @ kᵀ)) @ v
"""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from .attention import causal, masked
from .gates import PLACE, open_gate
from .places import opened_place

ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")


def open_call(model: fx.GraphModule, node: fx.Node) -> None:
    """Replace the node, if it is one of these."""
    if node.target is F.scaled_dot_product_attention:
        _open_attention(model, node)
    else:
        open_gate(model, node)


def _open_attention(model: fx.GraphModule, node: fx.Node) -> None:
    given: dict[str, Any] = {**dict(zip(ARGUMENTS, node.args, strict=False)), **node.kwargs}
    if given.get("enable_gqa"):
        return
    graph, (q, k, v) = node.graph, (given[name] for name in ARGUMENTS[:3])
    place, number = opened_place(model, node), given.get("scale")

    def call(function: Any, *args: Any) -> fx.Node:
        made = graph.call_function(function, args)
        made.meta, made.stack_trace = {**node.meta, PLACE: place}, node.stack_trace
        return made

    with graph.inserting_before(node):
        scale = call(operator.pow, graph.call_method("size", (q, -1)), -0.5) if number is None else number
        turned = graph.call_method("transpose", (k, -2, -1))
        scores = call(torch.matmul, call(torch.mul, q, scale), turned)
        if given.get("is_causal"):
            scores = call(causal, scores)
        if given.get("attn_mask") is not None:
            scores = call(masked, scores, given["attn_mask"])
        weights = call(torch.softmax, scores, -1)
        if given.get("dropout_p"):
            weights = call(F.dropout, weights, given["dropout_p"], True)
        result = call(torch.matmul, weights, v)
    node.replace_all_uses_with(result)
    graph.erase_node(node)
