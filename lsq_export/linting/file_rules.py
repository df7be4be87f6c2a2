"""Rules of a whole file: operator sets, domains, operators, shapes, size."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx

from calib.errors import one_line
from lsq_export.inspection.onnx_read import attribute

from .onnx_file import OnnxFile
from .predicates import THE_FILE, Place, predicate
from .scope import label


@predicate
def valid(file: OnnxFile) -> Iterator[Place]:
    """onnx.checker accepts it: operators, types, order of nodes."""
    try:
        onnx.checker.check_model(str(file.path) if file.path else file.proto)
    except Exception as error:  # its ValidationError, and those of protobuf
        yield THE_FILE, f"onnx {onnx.__version__} does not accept it ({one_line(error):.300})"


@predicate
def opset(file: OnnxFile, lowest: int = 1, highest: int = 999) -> Iterator[Place]:
    """The standard operators are of one of these operator sets."""
    if file.opset and not lowest <= file.opset <= highest:
        bounds = f"at least {lowest}" if file.opset < lowest else f"at most {highest}"
        yield THE_FILE, f"has operator set {file.opset}, and {bounds} is read"


@predicate
def domains(file: OnnxFile, allowed: Collection[str]) -> Iterator[Place]:
    """Operators are standard, or of these domains; those with a body in the file are what the body is."""
    bodies = {(function.domain, function.name) for function in file.proto.functions}
    for scope in file.scopes:
        for node in scope.nodes:
            domain = "" if node.domain == "ai.onnx" else node.domain
            if domain and domain not in allowed and (node.domain, node.op_type) not in bodies:
                yield label(node), f"is of the domain {domain}"


@predicate
def operators(file: OnnxFile, forbidden: Collection[str]) -> Iterator[Place]:
    """None of these operators."""
    for scope in file.scopes:
        for node in scope.nodes:
            if node.op_type in forbidden:
                yield label(node), f"{node.op_type} is not read"


@predicate
def fixed_inputs(file: OnnxFile, axes: str = "all") -> Iterator[Place]:
    """Inputs have numbers as sizes. axes: "all", or "batch" for the first alone."""
    for value in file.proto.graph.input:
        if value.name not in file.main.inputs:
            continue
        shape = value.type.tensor_type.shape
        if not value.type.tensor_type.HasField("shape"):
            yield f"input {value.name}", "has no shape"
            continue
        sizes = shape.dim[:1] if axes == "batch" else shape.dim
        unknown = [d.dim_param or "?" for d in sizes if not d.HasField("dim_value")]
        if unknown:
            yield f"input {value.name}", f"has sizes that vary ({', '.join(unknown)})"


@predicate
def batch(file: OnnxFile, size: int) -> Iterator[Place]:
    """Inputs with several axes have this batch, where it is a number."""
    for value in file.proto.graph.input:
        sizes = value.type.tensor_type.shape.dim
        known = len(sizes) > 1 and sizes[0].HasField("dim_value")
        if known and value.name in file.main.inputs and sizes[0].dim_value != size:
            yield f"input {value.name}", f"has a batch of {sizes[0].dim_value}"


@predicate
def file_size(file: OnnxFile, largest: int) -> Iterator[Place]:
    """The file and what lies outside of it have at most that many bytes."""
    if file.bytes > largest:
        yield THE_FILE, f"has {file.bytes:,} bytes, and at most {largest:,} are read"


@predicate
def padded_ceil_average(file: OnnxFile) -> Iterator[Place]:
    """No average pool both rounds its sizes up and counts its padding."""
    for scope in file.scopes:
        for node in scope.nodes:
            if node.op_type in ("AveragePool", "QLinearAveragePool") and all(
                attribute(node, name, 0) == 1 for name in ("ceil_mode", "count_include_pad")
            ):
                yield label(node), "has ceil_mode and count_include_pad"
