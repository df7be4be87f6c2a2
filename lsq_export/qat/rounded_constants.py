"""Constants that are added to or multiplied with what a network computes: training sees them as integers have them.

    x + position      =>   x + round_constant(position)         256 values, 0 among them
    q * cos(angles)   =>   q * round_constant(cos(angles))

The fold finds the step of such numbers again (rewrite/folding/constant_grids.py), and rounds nothing.
"""

from __future__ import annotations

import torch
from torch import fx

from calib.folding.containers import CONTAINER_MAX

from .float_functions import is_tensor, name_of, names

READERS = names("add iadd sub isub rsub mul imul multiply matmul bmm baddbmm")
MOVES = names(
    "getitem unsqueeze squeeze expand expand_as view reshape flatten transpose permute to type_as contiguous repeat "
    "tile repeat_interleave broadcast_to clone detach"
)


def round_constant(x: torch.Tensor) -> torch.Tensor:
    """[…] -> […], each number at most half a step of 1/255 of their range away; ∂/∂x = 1 (straight-through)."""
    if not x.is_floating_point() or x.numel() < 2:
        return x
    known = x.detach()
    low, high = known.min().clamp(max=0.0), known.max().clamp(min=0.0)
    scale = ((high - low) / CONTAINER_MAX).clamp(min=torch.finfo(x.dtype).tiny)
    zero_point = torch.round(-low / scale)
    codes = (torch.round(known / scale) + zero_point).clamp(0, CONTAINER_MAX)
    return x + ((codes - zero_point) * scale - known)


def round_constants(traced: fx.GraphModule, constants: set[fx.Node], left_out: set[fx.Node]) -> None:
    """constants: what no input decides. left_out: what takes them as they are, float or as weights of layers."""
    for node in list(traced.graph.nodes):
        computed = node.op in ("call_function", "call_method")
        if not computed or name_of(node) not in READERS or node in left_out or node in constants:
            continue
        for given in node.all_input_nodes:
            if given in constants and is_tensor(traced, given):
                _round(traced.graph, _source(given))


def _source(node: fx.Node) -> fx.Node:
    """Before what only moves numbers: those of a part have the grid of the whole."""
    while node.op != "get_attr" and name_of(node) in MOVES:
        node = node.all_input_nodes[0]
    return node


def _round(graph: fx.Graph, node: fx.Node) -> None:
    if node.target is round_constant or any(reader.target is round_constant for reader in node.users):
        return
    with graph.inserting_after(node):
        rounded = graph.call_function(round_constant, (node,))
    node.replace_all_uses_with(rounded, delete_user_cb=lambda reader: reader is not rounded)
