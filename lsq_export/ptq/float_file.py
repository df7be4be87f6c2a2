"""A float ONNX file of any maker -> a network with quantizers that have no grids yet."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir

from calib.errors import QuantizationError
from lsq_export.adoption.expand import EXPANDED
from lsq_export.adoption.grids import is_grid
from lsq_export.adoption.left import Left
from lsq_export.adoption.network import give_names, infer_spelled
from lsq_export.adoption.reading import read_network
from lsq_export.adoption.sizes import input_shape
from lsq_export.qat.config import QATConfig

from .graph_network import GraphNetwork
from .leading_axes import lead
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


def sample_shape(path: str | os.PathLike[str]) -> Any:
    """The shape of one sample of the inputs, as `input_shape` gives it; that of a state [2, 1, 128] is all of it.

    Errors (QuantizationError): those of `read_float`.
    """
    model = read_float(path)
    lead(model.graph)
    return input_shape(model)


def with_quantizers(model: ir.Model, config: QATConfig) -> FloatFile:
    """Errors (QuantizationError): those of `place_quantizers`."""
    infer_spelled(model)
    plain = ir.to_proto(model)
    placed = place_quantizers(model.graph, config)
    return FloatFile(GraphNetwork(model, placed.quantizers), placed.left, plain)
