"""torch's exporter splits operators that it does not know, and frees the graph of what writes in place, by tracing it a
second time: nearly half of the time of a capture. Where nothing is to be split that is left out:

    y = relu_(x)      =>  y = relu(x), and y instead of x after it       if nothing else shares the memory of x
    conv, linear, …   =>  themselves: torch.onnx has a form for them

Whatever else a graph has, torch traces it again.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

aten = torch.ops.aten
# Of the operators that torch takes for compositions of others, those that are exported as they are.
WHOLE = {
    aten.adaptive_avg_pool1d.default,
    aten.adaptive_avg_pool2d.default,
    aten.adaptive_avg_pool3d.default,
    aten.batch_norm.default,
    aten.conv1d.default,
    aten.conv2d.default,
    aten.conv3d.default,
    aten.flatten.using_ints,
    aten.linear.default,
    aten.max_pool2d.default,
    aten.softmax.int,
}


@contextmanager
def only_what_is_needed() -> Iterator[None]:
    """Inside this block programs are decomposed only where they have something to decompose."""
    decompose = ExportedProgram.run_decompositions

    def run_decompositions(program: ExportedProgram, table: Any = None, **options: Any) -> ExportedProgram:
        return program if table and _needs_nothing(program, table) else decompose(program, table, **options)

    with patch.object(ExportedProgram, "run_decompositions", run_decompositions):
        yield


def _needs_nothing(program: ExportedProgram, table: Mapping[Any, Any]) -> bool:
    """table: of what would be decomposed. What wrote in place no longer does, where that is all that was needed."""
    graph = program.graph_module.graph
    if any(isinstance(module, GraphModule) for module in program.graph_module.children()):
        return False  # branches and loops
    calls = [node for node in graph.nodes if node.op == "call_function"]
    if not all(_writes(node) or _stays(node, table) for node in calls):
        return False
    writing = [node for node in calls if _writes(node)]
    plain = {node: _plain(node.target) for node in writing}
    if not all(target in WHOLE or _known(target, table) for target in plain.values()):
        return False
    if not _own(writing):
        return False
    for node in writing:
        written = node.args[0]
        node.target = plain[node]
        for user in [user for user in written.users if node < user]:
            user.replace_input_with(written, node)
    program.graph_module.recompile()
    return True


def _stays(node: Node, table: Mapping[Any, Any]) -> bool:
    if node.target is aten.batch_norm.default and (node.args[3] is None or node.args[5]):
        return False  # it takes the statistics of the batch
    return node.target is operator.getitem or node.target in WHOLE or _known(node.target, table)


def _known(target: Any, table: Mapping[Any, Any]) -> bool:
    """An operator of torch that is not made of others, and changes nothing in place."""
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return (
        isinstance(target, torch._ops.OpOverload)
        and target not in table
        and not target._schema.is_mutable
        and not target.has_kernel_for_dispatch_key(key)
    )


def _writes(node: Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _plain(target: Any) -> Any:
    """relu for relu_; None where there is none of the same arguments."""
    name = target._schema.name.removeprefix("aten::")
    packet = getattr(aten, name.removesuffix("_"), None) if name.endswith("_") else None
    found = getattr(packet, target._overloadname, None)
    if found is None or [a.name for a in found._schema.arguments] != [a.name for a in target._schema.arguments]:
        return None
    return found


def _own(writing: Sequence[Node]) -> bool:
    """Whether each of these writes into a tensor of which no other node, and no view, reads the memory later."""
    last = {_first(node): node for node in writing}
    for node in writing:
        written = node.args[0]
        if not isinstance(written, Node) or any(user.op != "call_function" for user in written.users):
            return False  # an output of the program
        if {_type_of(other) for other in node.all_input_nodes} != {_type_of(node)}:
            return False
    for first, end in last.items():
        if first.op != "call_function" or _is_view(first):
            return False
        same = [first, *(node for node in writing if _first(node) is first)]
        if any(_is_view(user) and user < end for node in same for user in node.users):
            return False
    return True


def _first(node: Node) -> Node:
    """The node that made the tensor that a chain of writing nodes hands on."""
    while _writes(node) and isinstance(node.args[0], Node):
        node = node.args[0]
    return node


def _is_view(node: Node) -> bool:
    """Whether what a node makes shares memory with what it reads, which it does not write."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return True
    return not target._schema.is_mutable and any(value.alias_info for value in target._schema.returns)


def _type_of(node: Node) -> Any:
    return getattr(node.meta.get("val"), "dtype", None)
