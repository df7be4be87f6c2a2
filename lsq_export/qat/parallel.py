"""Convolutions side by side, each on its share of the channels, in torch.fx's graph: the fold makes one of them.

    x -> split -> conv_i -> cat  =>  one convolution, so that nothing between x and cat has a grid of its own

The rule is that of `rewrite/folding/merge_parallel.py`. Where the two differ, the fold gives a grid from calibration.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping

import torch
from torch import fx, nn

SPLITS = (torch.split, torch.chunk, "split", "chunk")  # their parts have the grid of the whole
CONCATS = (torch.cat, torch.concat, torch.concatenate)
Layers = Mapping[str, "int | None"]


def is_part(node: fx.Node) -> bool:
    """Whether the node is the tuple that a split makes, or one of its parts."""
    return node.target in SPLITS or (node.target is operator.getitem and node.all_input_nodes[0].target in SPLITS)


def merges(model: fx.GraphModule, concat: fx.Node, layers: Layers) -> bool:
    """Whether the node concatenates convolutions that the fold makes one of.

    layers: {layer: bits of its input; None: it stays float}.
    """
    if concat.target not in CONCATS or _dimension(concat, 1) != 1:
        return False
    branches = [_branch(model, node, layers) for node in concat.all_input_nodes]
    found = [branch for branch in branches if branch is not None]
    if len(found) < max(2, len(branches)):
        return False
    splits, order, convolutions, bits = zip(*found, strict=True)
    (split,) = set(splits) if len(set(splits)) == 1 else (None,)
    if split is None or _dimension(split, 2) != 1 or len(split.users) != len(found) or len(set(bits)) != 1:
        return False
    return list(order) == list(range(len(found))) and _alike(convolutions)


def split_for_merging(model: fx.GraphModule, split: fx.Node, layers: Layers) -> int | None:
    """Bits of the layers whose merged convolution reads what the node splits; None if the fold does not merge them."""
    if split.target not in SPLITS:
        return None
    layer = next((conv for part in split.users for conv in part.users), None)
    concat = next(iter(layer.users), None) if layer is not None else None
    return layers[str(layer.target)] if layer and concat and merges(model, concat, layers) else None


def _branch(model: fx.GraphModule, layer: fx.Node, layers: Layers) -> tuple[fx.Node, object, nn.Conv2d, int] | None:
    """(split, index of the part, convolution, bits of its input), where only the concat reads it."""
    bits = layers.get(str(layer.target)) if layer.op == "call_module" else None
    if bits is None or len(layer.users) != 1:
        return None
    part, convolution = layer.all_input_nodes[0], model.get_submodule(str(layer.target))
    if part.target is not operator.getitem or not is_part(part) or len(part.users) != 1:
        return None
    return (part.all_input_nodes[0], part.args[1], convolution, bits) if isinstance(convolution, nn.Conv2d) else None


def _dimension(node: fx.Node, position: int) -> object:
    """The argument `dim`, 0 as torch's default."""
    return node.args[position] if len(node.args) > position else node.kwargs.get("dim", 0)


def _alike(convolutions: tuple[nn.Conv2d, ...]) -> bool:
    """Equal strides, no dilation, kernels as wide beyond their pads; all depthwise with as many outputs, or dense."""
    shapes = set()
    for conv in convolutions:
        if isinstance(conv.padding, str) or conv.dilation != (1, 1):
            return False
        shapes.add((conv.stride, *(k - 2 * pad for k, pad in zip(conv.kernel_size, conv.padding, strict=True))))
    dense = all(conv.groups == 1 for conv in convolutions)
    depthwise = all(conv.groups == conv.in_channels for conv in convolutions)
    multipliers = {conv.out_channels / conv.in_channels for conv in convolutions}
    return len(shapes) == 1 and (dense or (depthwise and len(multipliers) == 1))
