"""Batch norms behind layers, as the libraries treat them.

"folded"   the file has none, and biases in their place: so does the network then
"scaled"   the grid belongs to w·γ/σ: conv(x, w) / 1 -> BN   =>   conv(x, w·γ/σ) + (b - μ)·γ/σ + β
"apart"    the grid belongs to w, and the batch norm stays behind the layer
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import fx, nn

from lsq_export.qat.layer_types import output_channels
from lsq_export.qat.node_kinds import NORMS

from .layer_values import bias_of, turned, weight_of
from .sites import module_at


def norms_behind(traced: fx.GraphModule) -> dict[str, str]:
    """{layer: the batch norm that alone reads it}, both called once."""
    calls = [str(node.target) for node in traced.graph.nodes if node.op == "call_module"]
    found = {}
    for node in traced.graph.nodes:
        readers = list(node.users)
        is_layer = isinstance(module_at(traced, node), (nn.modules.conv._ConvNd, nn.Linear))
        if is_layer and len(readers) == 1 and isinstance(module_at(traced, readers[0]), NORMS):
            pair = str(node.target), str(readers[0].target)
            if all(calls.count(name) == 1 for name in pair):
                found[pair[0]] = pair[1]
    return found


def without_norms(traced: fx.GraphModule, pairs: Mapping[str, str]) -> dict[fx.Node, fx.Node]:
    """The layers, with biases, take the place of both. Returns {node that is gone: that of its layer}."""
    graph, gone = traced.graph, {}
    for layer, norm in pairs.items():
        module = traced.get_submodule(layer)
        if bias_of(module) is None:
            module.register_parameter("bias", nn.Parameter(weight_of(module).new_zeros(output_channels(module))))
        for node in [node for node in graph.nodes if node.op == "call_module" and node.target == norm]:
            gone[node] = node.all_input_nodes[0]
            node.replace_all_uses_with(gone[node])
            graph.erase_node(node)
    traced.delete_all_unused_submodules()
    return gone


@torch.no_grad()
def scale_into_layers(
    traced: fx.GraphModule, pairs: Mapping[str, str], layers: Collection[str]
) -> dict[fx.Node, fx.Node]:
    """Batch norms go into these of their layers, in the order of torch's own arithmetic: w · (γ / sqrt(σ² + ε)).

    Returns what `without_norms` does.
    """
    chosen = {layer: norm for layer, norm in pairs.items() if layer in layers}
    factors = {}
    for layer, name in chosen.items():
        norm, own = traced.get_submodule(name), bias_of(traced.get_submodule(layer))
        assert isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_var is not None
        assert norm.running_mean is not None
        gamma = torch.ones_like(norm.running_var) if norm.weight is None else norm.weight
        beta = torch.zeros_like(gamma) if norm.bias is None else norm.bias
        factor = gamma / torch.sqrt(norm.running_var + norm.eps)
        bias = torch.zeros_like(gamma) if own is None else own
        factors[layer] = factor, (bias - norm.running_mean) * factor + beta
    gone = without_norms(traced, chosen)
    for layer, (factor, bias) in factors.items():
        module = traced.get_submodule(layer)
        weight, bias_here = turned(module, weight_of(module)), bias_of(module)
        assert bias_here is not None
        bias_here.copy_(bias)
        weight_of(module).copy_(turned(module, weight * factor.reshape(-1, *[1] * (weight.dim() - 1))))
    return gone
