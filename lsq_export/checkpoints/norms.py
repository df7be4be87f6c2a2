"""Batch norms behind layers, as the libraries treat them.

"folded"   the file has none, and biases in their place: so does the network then
"scaled"   the grid belongs to w·γ/σ: conv(x, w) / 1 -> BN   =>   conv(x, w·γ/σ) + (b - μ)·γ/σ + β
"apart"    the grid belongs to w, and the batch norm stays behind the layer
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import fx, nn

from lsq_export.qat.layer_types import TRANSPOSED
from lsq_export.qat.node_kinds import NORMS

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


def without_norms(traced: fx.GraphModule, pairs: dict[str, str]) -> None:
    """The layers, with biases, take the place of both."""
    graph = traced.graph
    for layer, norm in pairs.items():
        module = traced.get_submodule(layer)
        if module.bias is None:
            assert isinstance(module.weight, torch.Tensor)
            features = traced.get_submodule(norm).num_features
            module.register_parameter("bias", nn.Parameter(module.weight.new_zeros(features)))
        for node in [node for node in graph.nodes if node.op == "call_module" and node.target == norm]:
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.erase_node(node)
    traced.delete_all_unused_submodules()


@torch.no_grad()
def scale_into_layers(traced: fx.GraphModule, pairs: dict[str, str], layers: Collection[str]) -> None:
    """Batch norms go into these of their layers, in the order of torch's own arithmetic: w · (γ / sqrt(σ² + ε))."""
    chosen = {layer: norm for layer, norm in pairs.items() if layer in layers}
    factors = {}
    for layer, name in chosen.items():
        norm, module = traced.get_submodule(name), traced.get_submodule(layer)
        gamma = torch.ones_like(norm.running_var) if norm.weight is None else norm.weight
        beta = torch.zeros_like(gamma) if norm.bias is None else norm.bias
        factor = gamma / torch.sqrt(norm.running_var + norm.eps)
        bias = torch.zeros_like(gamma) if module.bias is None else module.bias
        factors[layer] = factor, (bias - norm.running_mean) * factor + beta
    without_norms(traced, chosen)
    for layer, (factor, bias) in factors.items():
        module = traced.get_submodule(layer)
        axis = 1 if isinstance(module, TRANSPOSED) else 0
        module.weight.mul_(factor.reshape([-1 if index == axis else 1 for index in range(module.weight.dim())]))
        module.bias.copy_(bias)
