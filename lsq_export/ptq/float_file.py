"""A float ONNX file of any maker -> a network with quantizers that have no grids yet."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.samples import Input, tensors_of
from lsq_export.adoption.expand import EXPANDED
from lsq_export.adoption.grids import is_grid
from lsq_export.adoption.left import Left
from lsq_export.adoption.network import give_names, infer
from lsq_export.adoption.reading import read_network
from lsq_export.adoption.windows import spell_windows
from lsq_export.qat.config import QATConfig

from .graph_network import GraphNetwork
from .placing import place_quantizers


@dataclass(frozen=True)
class FloatFile:
    """network: with quantizers. left: layers that stay float. plain: the float network, for ONNX Runtime."""

    network: GraphNetwork
    left: tuple[Left, ...]
    plain: onnx.ModelProto


def read_float(path: str | os.PathLike[str]) -> ir.Model:
    """Errors (QuantizationError): those of `read_network`; a file that is quantized already."""
    model = read_network(path)
    for node in model.graph:
        if is_grid(node) or node.op_type in EXPANDED:
            raise QuantizationError(
                f"{path}: {node.name or node.op_type} is a {node.op_type}: the network is quantized already; "
                "lsq-export adopt takes it as it is"
            )
    give_names(model.graph)
    return model


def input_shape(model: ir.Model) -> Any:
    """Sizes without the batch, None where the file leaves them open; {name: sizes} of several inputs."""
    shapes = {
        str(value.name): tuple(
            size if isinstance(size, int) and size > 0 else None for size in list(value.shape or ())[1:]
        )
        for value in model.graph.inputs
    }
    return next(iter(shapes.values())) if len(shapes) == 1 else shapes


def with_quantizers(model: ir.Model, config: QATConfig) -> FloatFile:
    """Errors (QuantizationError): those of `place_quantizers`."""
    infer(model)
    spell_windows(model.graph)
    plain = ir.to_proto(model)
    placed = place_quantizers(model.graph, config)
    return FloatFile(GraphNetwork(model, placed.quantizers), placed.left, plain)


def fix_sizes(graph: ir.Graph, x: Input, path: str | os.PathLike[str]) -> None:
    """All sizes of the inputs but the batch become those of x, [N, …].

    Errors (QuantizationError): the file has another size, or another number of axes.
    """
    for value, tensor in zip(graph.inputs, tensors_of(x), strict=True):
        known = list(value.shape) if value.shape is not None else [None] * tensor.dim()
        found = [None, *tensor.shape[1:]]
        if len(known) != len(found) or any(
            isinstance(a, int) and a > 0 and b is not None and a != b for a, b in zip(known, found, strict=True)
        ):
            raise QuantizationError(
                f"{path}: the input {value.name} has the shape {[str(size) for size in known]}, the data have "
                f"{list(tensor.shape)}: prepare them as the network wants them"
            )
        batch = known[0] if isinstance(known[0], int) and known[0] > 0 else ir.SymbolicDim("batch")
        value.shape = ir.Shape([batch, *tensor.shape[1:]])
    for node in graph:
        for value in node.outputs:
            value.shape = None  # as the file had it: inferred anew
