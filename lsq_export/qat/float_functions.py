"""What torch.fx's nodes are to float islands, and which of them give no tensor of floats, which alone has a grid.

By names of functions, methods and classes of torch. Where this differs from the table of operators
(graph/operators.py), training has a grid more or less than the fold, which calibrates what is missing.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import partial

from torch import fx, nn

from .drawn_in import Role, drawn_in
from .known_types import FLOATS


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Functions and methods without an integer form, islands of the table among them.
FLOAT = names(
    """acos affine_grid asin atan bernoulli causal ceil celu celu_ clip_grad cos cosh cosine_similarity cross
    cumprod cumsum elu elu_ erf exp expm1 floor fmod frac gelu grid_sample group_norm gumbel_softmax hardshrink
    instance_norm layer_norm lerp local_response_norm log log10 log1p log2 log_softmax logsigmoid logsumexp
    masked masked_fill masked_fill_ mish mode norm normalize prod reciprocal remainder rms_norm round rrelu
    rsqrt scatter scatter_ scatter_add selu sign sin sinh softmax softmin softplus softshrink softsign sqrt std
    tan threshold threshold_ trunc var vector_norm where"""
)
FLOAT_MODULES = (
    *(nn.CELU, nn.CosineSimilarity, nn.ELU, nn.GELU, nn.GroupNorm, nn.Hardshrink, nn.InstanceNorm1d, nn.InstanceNorm2d),
    *(nn.InstanceNorm3d, nn.LayerNorm, nn.LocalResponseNorm, nn.LogSigmoid, nn.LogSoftmax, nn.Mish, nn.RMSNorm),
    *(nn.SELU, nn.Softmax, nn.Softmax2d, nn.Softmin, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Threshold),
)
# Of these, the islands of the table: they make no island of the sums after them (`drawn_in`).
ISLANDS = names(
    """celu celu_ cos elu elu_ erf exp gelu layer_norm log log_softmax mish pow reciprocal selu sin softmax
    softplus softsign sqrt"""
)
ISLAND_MODULES = (
    *(nn.CELU, nn.ELU, nn.GELU, nn.LayerNorm, nn.LogSoftmax, nn.Mish, nn.SELU, nn.Softmax, nn.Softplus, nn.Softsign),
)
# What gives masks, places, numbers, or several tensors at once.
NO_TENSOR = names(
    """all and_ any arange argmax argmin argsort bincount bool chunk cummax cummin device dim dtype eq equal finfo ge
    gt int invert is_contiguous is_floating_point isfinite isin isinf isnan item le len length logical_and logical_not
    logical_or logical_xor long lt meshgrid ndim ne nonzero not_ numel one_hot or_ searchsorted shape size sort
    split std_mean stride tensor_split tolist topk type unbind unflatten_sizes unique var_mean"""
)
NUMBERS = names("getattr size dim length numel")  # what asks a tensor for its shape and the like
TUPLE_MODULES = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
LIGHT = names("""clamp flatten permute relu reshape squeeze transpose unsqueeze view""")
MEANS = names("mean")
SUMS = names("add add_ iadd sub sub_ isub")
SOFTMAX = names("softmax log_softmax")
SOFT = names(
    """add add_ clamp clamp_ clamp_max clamp_min contiguous div expand flatten iadd imul isub itruediv mul mul_ neg
    permute pow relu relu_ reshape rsub square squeeze sub sub_ sum transpose truediv unsqueeze view"""
)


def name_of(node: fx.Node) -> str:
    """Of the function or method; "" of a module."""
    if node.op == "call_module":
        return ""
    return node.target if isinstance(node.target, str) else str(getattr(node.target, "__name__", ""))


def hands_out(node: fx.Node) -> bool:
    """The output of the network, or a dataclass or named tuple that it returns its results in."""
    return node.op == "output" or (node.op == "call_function" and isinstance(node.target, type))


def is_tensor(model: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node gives one tensor of floats: as an example showed it, or as far as its name tells."""
    if hands_out(node):
        return False
    if FLOATS in node.meta:
        return bool(node.meta[FLOATS])
    if node.op == "call_module":
        return not isinstance(model.get_submodule(str(node.target)), TUPLE_MODULES)
    if node.target is operator.getitem:
        source = node.all_input_nodes[0]
        alone = isinstance(node.args[1], int) and not is_tensor(model, source)
        if alone:
            return bool(node.args[1] == 0) and _first_is_float(model, source)
        return is_tensor(model, source)
    if node.op in ("call_function", "call_method"):
        name = name_of(node)
        two = name in ("max", "min") and (len(node.args) > 1 or bool(node.kwargs)) and len(node.all_input_nodes) == 1
        return name not in NO_TENSOR and not two
    return True


def _first_is_float(model: fx.GraphModule, source: fx.Node) -> bool:
    """The first of several results is a tensor of floats."""
    if source.op == "call_module":
        return isinstance(model.get_submodule(str(source.target)), (nn.RNNBase, nn.MultiheadAttention))
    return name_of(source) in ("max", "min", "topk", "sort", "split", "chunk", "unbind", "var_mean", "std_mean")


def inside_islands(model: fx.GraphModule, floats: set[fx.Node]) -> set[fx.Node]:
    """The nodes whose values stay float up to all that read them. floats: those of `float_nodes`."""

    def stays(node: fx.Node) -> bool:
        return node in floats or node.op == "placeholder"

    return {
        node for node in model.graph.nodes if stays(node) and (read := _readers(model, node)) and all(map(stays, read))
    }


def _readers(model: fx.GraphModule, node: fx.Node) -> Sequence[fx.Node] | None:
    tensors = [reader for reader in node.users if name_of(reader) not in NUMBERS]
    found = [reader for reader in tensors if is_tensor(model, reader) or hands_out(reader)]
    return None if any(map(hands_out, found)) else found


def float_nodes(model: fx.GraphModule) -> set[fx.Node]:
    """The nodes that are float islands or parts of them."""
    nodes = list(model.graph.nodes)
    constants: set[fx.Node] = set()
    for node in nodes:
        computed = node.op in ("call_function", "call_method") and name_of(node) not in NUMBERS
        numbers = [maker for maker in node.all_input_nodes if name_of(maker) not in NUMBERS]
        if node.op == "get_attr" or (computed and all(maker in constants for maker in numbers)):
            constants.add(node)

    readers = partial(_readers, model)

    def makers(node: fx.Node) -> list[fx.Node]:
        return [maker for maker in node.all_input_nodes if maker not in constants]

    def tail(node: fx.Node) -> bool:
        return name_of(node) in ("add", "mul") and len(makers(node)) == 1 and len(node.args) == 2

    def light(node: fx.Node) -> bool:
        return name_of(node) in LIGHT

    def front(node: fx.Node) -> bool:
        tensors = len(node.all_input_nodes) == 2 and name_of(node) in SUMS
        return tensors and any(_is_softmax(model, reader) for reader in readers(node) or ())

    roles = {node: _role(model, node) for node in nodes}

    def role(node: fx.Node) -> Role:
        after = roles[node] is Role.ISLAND and any(roles[maker] is Role.FLOAT for maker in makers(node))
        return Role.FLOAT if after else roles[node]

    def fed(node: fx.Node) -> bool:
        return any(maker.op == "placeholder" for maker in node.all_input_nodes)

    operators = [node for node in nodes if node.op != "placeholder"]
    found = drawn_in(operators, role, makers, readers, tail, light, front, fed)
    return found | {node for node in operators if is_float(model, node)}


def is_float(model: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node has no integer form."""
    return _role(model, node) in (Role.FLOAT, Role.ISLAND)


def _is_softmax(model: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), (nn.Softmax, nn.LogSoftmax))
    return name_of(node) in SOFTMAX


def _role(model: fx.GraphModule, node: fx.Node) -> Role:
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        if isinstance(module, ISLAND_MODULES):
            return Role.ISLAND
        return Role.FLOAT if isinstance(module, FLOAT_MODULES) else Role.OTHER
    if node.op not in ("call_function", "call_method"):
        return Role.OTHER
    name = name_of(node)
    numbers = [argument for argument in node.args[1:] if not isinstance(argument, fx.Node)]
    if (name in ("truediv", "div", "itruediv") and not numbers) or (name == "pow" and numbers != [2]):
        return Role.ISLAND
    if name in FLOAT:
        return Role.ISLAND if name in ISLANDS else Role.FLOAT
    return Role.MEAN if name in MEANS else Role.SOFT if name in SOFT else Role.OTHER
