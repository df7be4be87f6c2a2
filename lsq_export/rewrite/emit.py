"""emit: the folded graph -> the ONNX file of one format, for one target."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import onnx
import onnx_ir as ir

from calib.errors import QuantizationError
from lsq_export.files import large_onnx
from lsq_export.files.digest import sha256_of
from lsq_export.graph.edit import copy
from lsq_export.graph.kept_float import said_of, stays_float
from lsq_export.graph.notes import strip
from lsq_export.rewrite.lowering.dialects import in_dialect
from lsq_export.rewrite.lowering.lookup import to_lookup
from lsq_export.rewrite.lowering.narrow import opset_of, to_narrow
from lsq_export.rewrite.lowering.qoperator import to_qoperator
from lsq_export.targets import Target
from lsq_export.targets.choice import check_formats, check_readable
from lsq_export.version import VERSION

from .fixed_batch import with_batch
from .fold import Folded

# Of the ONNX release that brought the operator set.
IR_VERSION = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 13, 26: 13}
NOTES_FROM = 10  # the IR version from which nodes and values have metadata
SHARE_FROM = 64  # elements: equal constants from this size on are stored once (a module that is used twice)


def emit(folded: ir.Model, format_name: str, target: Target) -> onnx.ModelProto:
    """The checked file of `format_name`, "qdq", "qoperator" or "lookup", from the folded QDQ graph."""
    check_formats([format_name])
    folded = copy(folded)
    _share_constants(folded.graph)  # as in reference/folded.onnx, from which `verify` makes the same file again
    if format_name == "qdq":
        lowered = in_dialect(to_narrow(folded, target.containers) if target.narrow else folded, target.dialect)
    else:
        lowered = to_lookup(folded) if format_name == "lookup" else to_qoperator(folded)
    file = _serialized(lowered, target.opset, format_name)
    return file if target.batch is None else with_batch(file, target.batch)


def serialize(model: ir.Model, opset: int, name: str, *, notes: bool = False) -> onnx.ModelProto:
    """ONNX of the given operator set, or the one that its contents need, with equal constants stored once.

    notes: keep our notes on nodes (graph/notes.py); the exporter's go in any case.
    """
    return _serialized(copy(model), opset, name, notes=notes)


def _serialized(model: ir.Model, opset: int, name: str, *, notes: bool = False) -> onnx.ModelProto:
    """Of a model that nobody else reads."""
    import onnx_ir.passes.common as passes

    kept = {node: said_of(node) for node in model.graph if stays_float(node)}
    opset = opset_of(model, opset)
    if notes:
        strip(model)
    else:
        passes.ClearMetadataAndDocStringPass()(model)
    for node, said in kept.items():
        node.doc_string = said
    _share_constants(model.graph)
    model.graph.opset_imports[""] = opset
    if all(node.domain != "lsq_export" for node in model.graph):
        model.graph.opset_imports.pop("lsq_export", None)
    model.ir_version = max(IR_VERSION[opset], NOTES_FROM if notes else 0)
    model.producer_name, model.producer_version, model.graph.name = "lsq-export", VERSION, name
    proto = ir.to_proto(model)
    if not notes:  # which lie there, too
        _drop_types_of_constants(proto.graph)
    return proto


def _drop_types_of_constants(graph: onnx.GraphProto) -> None:
    """A constant says them itself; converters to float16 take what has a value_info for a value that is computed."""
    constants = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in constants]
    graph.ClearField("value_info")
    graph.value_info.extend(kept)


def check(proto: onnx.ModelProto, what: str) -> None:
    """onnx.checker; a file that fails it is never written."""
    try:
        onnx.checker.check_model(proto if large_onnx.is_light(proto) else large_onnx.skeleton(proto))
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise QuantizationError(
            f"{what}: the exported graph is not valid ONNX ({reason}); please report this model"
        ) from error


def _share_constants(graph: ir.Graph) -> None:
    """Of equal constants the one that the graph reads first stays.

    The order in which a graph lists its constants would not do: it is another one after the graph was read from a file.
    """
    first: dict[tuple[str, tuple[int, ...], str], ir.Value] = {}
    for value in sorted(graph.initializers.values(), key=_first_read(graph)):
        tensor = value.const_value
        if tensor is None or tensor.size < SHARE_FROM:
            continue
        key = (str(tensor.dtype), tuple(tensor.shape.numpy()), sha256_of(BytesIO(tensor.tobytes())))
        kept = first.setdefault(key, value)
        if kept is not value:
            value.replace_all_uses_with(kept)
            assert value.name is not None
            graph.initializers.pop(value.name)


def _first_read(graph: ir.Graph) -> Callable[[ir.Value], tuple[int, int]]:
    """Where a value is read first: the number of the node, and of its input; those that no node reads are the last."""
    places: dict[ir.Value, tuple[int, int]] = {}
    for number, node in enumerate(graph):
        for index, value in enumerate(node.inputs):
            if value is not None:
                places.setdefault(value, (number, index))
    return lambda value: places.get(value, (len(graph), 0))


def emit_all(folded: Folded, formats: tuple[str, ...], target: Target) -> dict[str, onnx.ModelProto]:
    """{format: checked file}."""
    files = {}
    for name in formats:
        check_formats([name])
        check_readable(name, target)
        files[name] = emit(folded.model, name, target)
        check(files[name], name)
    return files


def code_types(proto: onnx.ModelProto) -> dict[str, str]:
    """{tensor of codes, or layer: container type} of a qdq file: what activations and weights really are stored in."""
    constants = {tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in proto.graph.initializer}
    made_by = {n.output[0]: n for n in proto.graph.node if n.op_type == "DequantizeLinear"}
    found = {}
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear":
            found[node.output[0]] = constants[node.input[2]]
        elif node.op_type in ("Conv", "Gemm") and node.input[1] in made_by:  # others are kept float
            codes = made_by[node.input[1]].input[0]
            if codes in constants:  # and no weight that the network computes
                found[node.name] = constants[codes]
    return found
