"""What in a file is not as the fold prescribes: nodes, constants, and what it says about itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from calib.words import counted


def altered_parts(file: onnx.ModelProto, prescribed: onnx.ModelProto) -> tuple[str, ...]:
    """One line for each node or constant in which a file is not what the folded graph prescribes."""
    if file is prescribed:
        return ()
    return (*_altered_nodes(file, prescribed), *_altered_constants(file, prescribed))


def _altered_nodes(file: onnx.ModelProto, prescribed: onnx.ModelProto) -> Iterator[str]:
    nodes, expected = (
        [node.SerializeToString(deterministic=True) for node in proto.graph.node] for proto in (file, prescribed)
    )
    if len(nodes) != len(expected):
        yield f"the graph has {counted(len(nodes), 'node')}, the fold prescribes {len(expected)}"
    frame = _frame(prescribed)
    for what, content in _frame(file).items():
        if content != frame[what]:
            yield f"the file's {what} are not as the fold prescribes"
    for node, ours, theirs in zip(file.graph.node, nodes, expected, strict=False):  # another length is said above
        if ours != theirs:
            yield f"node {node.name} ({node.op_type}) is not as the fold prescribes"


def _frame(proto: onnx.ModelProto) -> dict[str, object]:
    """What a file says besides its nodes and constants."""
    graph = proto.graph
    return {
        "inputs": [value.SerializeToString(deterministic=True) for value in graph.input],
        "outputs": [value.SerializeToString(deterministic=True) for value in graph.output],
        "versions": (proto.ir_version, {o.domain: o.version for o in proto.opset_import}),
        "functions": [function.SerializeToString(deterministic=True) for function in proto.functions],
        "sparse constants": len(graph.sparse_initializer),
    }


def _altered_constants(file: onnx.ModelProto, prescribed: onnx.ModelProto) -> Iterator[str]:
    ours, theirs = ({tensor.name: tensor for tensor in proto.graph.initializer} for proto in (file, prescribed))
    for name in [*theirs, *(name for name in ours if name not in theirs)]:
        if name not in ours:
            yield f"constant {name} is missing"
        elif name not in theirs:
            yield f"constant {name} is not prescribed by the fold"
        else:
            yield from _altered_values(name, numpy_helper.to_array(ours[name]), numpy_helper.to_array(theirs[name]))


def _altered_values(name: str, a: np.ndarray, b: np.ndarray) -> Iterator[str]:
    if a.shape != b.shape or a.dtype != b.dtype:
        yield f"constant {name} is {a.dtype}{list(a.shape)}, the fold prescribes {b.dtype}{list(b.shape)}"
    elif not np.array_equal(a, b):
        yield f"constant {name} differs from the fold in {int((a != b).sum())} of {a.size} values"
