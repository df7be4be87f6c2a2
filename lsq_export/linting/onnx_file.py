"""An ONNX file of anybody, as the rules read it: no constant outside of it is read before a rule asks for its values.

    model = open_model("any.onnx")
    for scope in model.scopes: ...       # the graph, the graphs in its nodes, its functions

Files of any size: beyond 2 GB constants lie in other files, of which single ones are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx
from onnx.external_data_helper import load_external_data_for_tensor

from calib.errors import QuantizationError, one_line, shown
from lsq_export.files.kinds import is_ort

from .scope import Scope

LARGEST = 2**31 - 1  # bytes of a protobuf message
DEPTH = 16  # of graphs in nodes


@dataclass(frozen=True)
class OnnxFile:
    """path: of the file; None for a model in memory. proto: constants in other files have no values in it."""

    path: Path | None
    proto: onnx.ModelProto

    @cached_property
    def scopes(self) -> tuple[Scope, ...]:
        """The main graph first, then the graphs in its nodes, and the bodies of its functions."""
        main = Scope.of_graph(self.proto.graph, None, self.values)
        bodies = [Scope.of_function(function, self.values) for function in self.proto.functions]
        return tuple(inner for scope in (main, *bodies) for inner in _with_inner(scope, DEPTH))

    @property
    def main(self) -> Scope:
        """The graph of the file."""
        return self.scopes[0]

    @property
    def opset(self) -> int:
        """Of the standard operators; 0: the file has none."""
        return max((entry.version for entry in self.proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)

    @cached_property
    def bytes(self) -> int:
        """Of the file and of all constants outside of it."""
        outside = sum(
            int(length)
            for tensor in self.proto.graph.initializer
            for length in (entry.value for entry in tensor.external_data if entry.key == "length")
            if length.isdecimal()
        )
        return (self.path.stat().st_size if self.path else self.proto.ByteSize()) + outside

    def values(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        """The tensor with its values. Errors (QuantizationError): they lie in a file that is missing or too short."""
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return tensor
        whole = onnx.TensorProto()
        whole.CopyFrom(tensor)
        where = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        try:
            if self.path is None:
                raise ValueError("the model is in memory")
            load_external_data_for_tensor(whole, str(self.path.parent))
        except Exception as error:  # ValidationError, OSError, ValueError
            raise QuantizationError(
                f"{shown(self.path)}: the values of {shown(tensor.name)} cannot be read from {shown(where)} "
                f"({one_line(error):.200}): put all files of the model into one folder"
            ) from error
        return whole


def open_model(path: str | os.PathLike[str]) -> OnnxFile:
    """Errors (QuantizationError): missing, too large for protobuf, not readable, no ONNX file."""
    path = Path(path)
    if not path.is_file():
        raise QuantizationError(
            f"{shown(path)} {'is a directory' if path.is_dir() else 'is no file'}: give an ONNX file"
        )
    if path.stat().st_size > LARGEST:
        raise QuantizationError(
            f"{shown(path)} has {path.stat().st_size:,} bytes, and no ONNX file can have more than 2 GB: save it with "
            "external data"
        )
    if is_ort(path):
        raise QuantizationError(f"{shown(path)} is in ONNX Runtime's own format: give the ONNX file it was made of")
    try:
        proto = onnx.load_model(path, format="protobuf", load_external_data=False)
    except Exception as error:  # protobuf's DecodeError, OSError
        raise QuantizationError(
            f"{shown(path)} cannot be read as ONNX ({one_line(error):.200}): export or copy it again"
        ) from error
    if not proto.graph.node:  # almost any few bytes parse as an empty protobuf message
        raise QuantizationError(f"{shown(path)} cannot be read as ONNX (no graph in it): export or copy it again")
    return OnnxFile(path, proto)


def _with_inner(scope: Scope, depth: int) -> Iterator[Scope]:
    """A scope and those in its nodes. Errors (QuantizationError): too deep."""
    if depth == 0:
        raise QuantizationError(f"graphs are nested deeper than {DEPTH}: this is no network")
    yield scope
    for node in scope.nodes:
        for graph in _graphs(node):
            yield from _with_inner(Scope.of_graph(graph, scope, scope.values), depth - 1)


def _graphs(node: onnx.NodeProto) -> Sequence[onnx.GraphProto]:
    return [graph for a in node.attribute for graph in ([a.g] if a.HasField("g") else list(a.graphs))]
