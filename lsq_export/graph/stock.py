"""Float meaning of any operator that ONNX Runtime has: one node, run there in float32.

For operators for which our table (operators.py) has no meaning. What ONNX Runtime does not know either cannot be in a
network that it shall run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as ir
import torch

from calib.errors import QuantizationError, one_line

from .read import graph_of

KEPT_SESSIONS = 256
SHAPE = 16  # integers at most that a shape has
IR_VERSION = 10


def run_stock(node: ir.Node, inputs: Sequence[torch.Tensor | None]) -> tuple[torch.Tensor, ...]:
    """All outputs of a node; floats in float32.

    Errors (QuantizationError): ONNX Runtime cannot run it.
    """
    arrays = [None if x is None else _array(x) for x in inputs]
    known = {f"x{i}": array for i, array in enumerate(arrays) if array is not None}
    fixed = tuple((name, array.shape, array.tobytes()) for name, array in known.items() if _is_shape(array))
    feeds = {name: array for name, array in known.items() if not _is_shape(array)}
    kinds = tuple((name, array.dtype.str, array.ndim) for name, array in feeds.items())
    try:
        results = _session(_proto(node, arrays), kinds, fixed, _opset(node), node.domain).run(None, feeds)
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise QuantizationError(
            f"{node.name}: ONNX Runtime cannot run the operator {node.op_type} ({one_line(error)[:200]})"
        ) from error
    made = iter(results)
    return tuple(torch.from_numpy(np.array(next(made))) if value.name else torch.empty(0) for value in node.outputs)


def newest_needed(node: ir.Node, opset: int) -> int:
    """The operator set that brought the form that an operator of set `opset` has; 1 for other domains."""
    if node.domain or not onnx.defs.has(node.op_type):
        return 1
    return int(onnx.defs.get_schema(node.op_type, opset).since_version)


def _is_shape(array: np.ndarray) -> bool:
    """Sizes, axes or pads: some operators want them as constants."""
    return array.dtype == np.int64 and array.ndim <= 1 and array.size <= SHAPE


def _array(x: torch.Tensor) -> np.ndarray:
    return (x.float() if x.is_floating_point() else x).contiguous().numpy()


def _opset(node: ir.Node) -> int:
    return graph_of(node).opset_imports.get("", 20)


def _proto(node: ir.Node, arrays: Sequence[np.ndarray | None]) -> bytes:
    """The node with inputs x0, x1, … and outputs y0, y1, …"""
    proto: onnx.NodeProto = ir.serde.serialize_node(node)
    for index, array in enumerate(arrays):
        proto.input[index] = "" if array is None else f"x{index}"
    for index, value in enumerate(node.outputs):
        proto.output[index] = f"y{index}" if value.name else ""
    for field in ("name", "doc_string", "metadata_props"):
        proto.ClearField(field)
    return bytes(proto.SerializeToString())


@lru_cache(maxsize=KEPT_SESSIONS)
def _session(
    content: bytes,
    kinds: tuple[tuple[str, str, int], ...],
    fixed: tuple[tuple[str, tuple[int, ...], bytes], ...],
    opset: int,
    domain: str,
) -> Any:
    node = onnx.NodeProto.FromString(content)
    given = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)), [None] * rank)
        for name, kind, rank in kinds
    ]
    made = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
    domains = [onnx.helper.make_opsetid("", opset), *([onnx.helper.make_opsetid(domain, 1)] if domain else [])]
    constants = [
        onnx.numpy_helper.from_array(np.frombuffer(data, np.int64).reshape(shape), name) for name, shape, data in fixed
    ]
    graph = onnx.helper.make_graph([node], "node", given, made, constants)
    model = onnx.helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION)
    return _open(model)


def zeros_for(graph: ir.Graph, batch: int) -> dict[str, np.ndarray] | None:
    """{input: zeros} of its type and shape, with this batch where it is open; None where another size is."""
    arrays = {}
    for given in graph.inputs:
        shape = list(given.shape) if given.shape is not None else []
        sizes = [size for size in shape[1:] if isinstance(size, int)]
        if not shape or len(sizes) != len(shape) - 1 or given.dtype is None:
            return None
        first = shape[0] if isinstance(shape[0], int) else batch
        arrays[str(given.name)] = np.zeros((first, *sizes), given.dtype.numpy())
    return arrays


def run_graph(model: ir.Model, inputs: Sequence[np.ndarray], wanted: Sequence[str]) -> dict[str, np.ndarray] | None:
    """{value: array} of a float graph; None where ONNX Runtime cannot run it."""
    proto = ir.to_proto(model)
    present = {output.name for output in proto.graph.output}
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in wanted if n not in present)
    for domain in [entry for entry in proto.opset_import if entry.domain == "lsq_export"]:
        proto.opset_import.remove(domain)
    try:
        session = _open(proto)
        names = [output.name for output in session.get_outputs()]
        feeds = {given.name: x for given, x in zip(session.get_inputs(), inputs, strict=True)}
        return dict(zip(names, session.run(None, feeds), strict=True))
    except Exception:  # ONNX Runtime's exceptions have no common base
        return None


def _open(model: onnx.ModelProto) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
