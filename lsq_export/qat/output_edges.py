"""Which outputs of the network the fold rounds to 8 bits, on torch.fx's graph: training then rounds them as well.

    y = conv(x); return y                       =>  return edges.<name>(y)
    return sigmoid(x), a + b, x.mean(1), …      =>  the same
    return linear(x)                            it stays: its accumulator is the output
    return softmax(x), and other float islands  it stays
    return cat(a, b), reshape(linear(x)), …     it stays: parts are put together in float, and have grids of their own

The rules are those of `rewrite/folding/edges.py` and `rewrite/folding/output_tails.py`, on torch.fx's graph.
"""

from __future__ import annotations

import operator

import torch
import torch.nn.functional as F
from torch import fx, nn

from .float_functions import is_float, name_of, names
from .node_kinds import asks, bits_of, is_clamp, is_layer, is_norm, passes
from .parallel import CONCATS, Layers

JOINS = (*CONCATS, torch.stack, torch.hstack, torch.vstack)
# What moves elements, beside what `passes` knows: a grid comes before it.
MOVED = names(
    """adaptive_max_pool1d adaptive_max_pool2d chunk expand expand_as getitem movedim narrow neg pad pixel_shuffle
    pixel_unshuffle repeat roll select squeeze swapaxes t transpose unflatten unsqueeze"""
)
MOVING_MODULES = (nn.PixelShuffle, nn.PixelUnshuffle, nn.Unflatten, nn.ConstantPad1d, nn.ConstantPad2d, nn.ZeroPad2d)
PRODUCTS = names("mul mul_ imul div div_ truediv itruediv neg")
SUMS = names("add add_ iadd sub sub_ isub rsub")


def rounded_at_output(model: fx.GraphModule, node: fx.Node, layers: Layers) -> bool:
    """Whether the fold would calibrate a grid for a value that the outside alone reads.

    layers: {layer: bits of its input; None: it stays float}.
    """
    if node.op == "placeholder" or is_float(model, node) or _interpolates_float(model, node):
        return False
    if is_layer(node, layers):
        return bits_of(node, layers) is not None and not _is_linear(model, node)
    if node.target in JOINS or _moves(model, node):
        return False
    sources = [source for source in node.all_input_nodes if not asks(source)]
    if is_norm(model, node):
        return not is_layer(sources[0], layers) or rounded_at_output(model, sources[0], layers)
    if is_clamp(model, node):
        return not _is_joined(model, sources[0])
    if passes(model, node):
        return len(sources[0].users) == 1 and rounded_at_output(model, sources[0], layers)
    computed = [source for source in sources if source.op != "get_attr"]
    if name_of(node) in PRODUCTS and len(sources) == 1:
        return False  # by a number: the grid of what is multiplied is named anew
    return not (name_of(node) in SUMS and len(computed) < len(sources))  # a constant stays what it is


def _is_linear(model: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(model.get_submodule(str(node.target)), nn.Linear)


def _moves(model: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), MOVING_MODULES)
    return node.target is operator.getitem or name_of(node) in MOVED


def _is_joined(model: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a value is put together of several ones, perhaps before operators that move elements or clamp."""
    while node.target not in JOINS:
        if not (_moves(model, node) or passes(model, node)) or len(node.users) > 1:
            return False
        node = node.all_input_nodes[0]
    return True


def _interpolates_float(model: fx.GraphModule, node: fx.Node) -> bool:
    """An interpolation that is no convolution."""
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        return isinstance(module, nn.Upsample) and (module.mode == "bicubic" or bool(module.align_corners))
    return node.target is F.interpolate and (
        node.kwargs.get("mode") == "bicubic" or bool(node.kwargs.get("align_corners"))
    )
