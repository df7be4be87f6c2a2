"""What the nodes of torch.fx's graph are to grids: layers, norms, clamps, operators that pass a grid on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import fx, nn

from .functional import key_of
from .lengths import length
from .parallel import Layers

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.Flatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity),
)
FUNCTIONS = (F.relu, torch.relu, F.relu6, F.hardtanh, torch.clamp, torch.flatten, F.max_pool1d, F.max_pool2d)
SHAPES = ("size", "dim", getattr, length)  # methods and functions that ask for numbers, not for values
CLAMP_MODULES = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
CLAMPS = (F.relu, torch.relu, F.relu6, F.hardtanh, torch.clamp, "relu", "relu_", "clamp", "clamp_")
TANHS = (torch.tanh, F.tanh, "tanh", "tanh_")
METHODS = ("relu", "relu_", "clamp", "clamp_", "flatten", "reshape", "view", "permute", "contiguous")


def asks(node: fx.Node) -> bool:
    """Whether the node asks for a shape, or computes with such a number; numbers have no grid."""
    if node.target in SHAPES:
        return True
    sources = node.all_input_nodes
    return node.op == "call_function" and bool(sources) and all(asks(source) for source in sources)


def is_layer(node: fx.Node, layers: Layers) -> bool:
    return node.op in ("call_module", "call_function", "call_method") and key_of(node) in layers


def bits_of(layer: fx.Node, layers: Layers) -> int | None:
    return layers[key_of(layer)]


def is_tanh(model: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), nn.Tanh)
    return node.target in TANHS


def is_clamp(model: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), CLAMP_MODULES)
    return node.target in CLAMPS


def is_norm(model: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), NORMS)
    return node.target is F.batch_norm and node.all_input_nodes[0] is node.args[0]


def passes(model: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node is a clamp, or an operator that keeps codes."""
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), MODULES)
    if node.op == "call_function":
        return node.target in FUNCTIONS
    return node.op == "call_method" and node.target in METHODS
