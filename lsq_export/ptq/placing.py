"""Quantizers for a float ONNX graph: in front of every layer, and behind its weight.

    Conv(x, W), ConvTranspose, Gemm, MatMul with a constant W   =>   Conv(FakeQuantize(x), FakeQuantize(W))

As in `prepare`, but that layers which read one tensor share its quantizer. Markers have no grid yet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir
import torch

from calib.errors import QuantizationError
from lsq_export.adoption.layers import LAYERS, output_channels_first, put_weight
from lsq_export.adoption.left import Left
from lsq_export.graph.edit import insert_after
from lsq_export.graph.notes import FLOAT, WISHED
from lsq_export.graph.read import MARKER, MARKER_DOMAIN, array_of, is_float
from lsq_export.qat.config import QATConfig
from lsq_export.qat.layer_settings import LayerSettings, check_patterns
from lsq_export.qat.maker import Maker
from lsq_export.qat.quantizer import Quantizer


@dataclass(frozen=True)
class Placed:
    """quantizers: {output of a marker: its quantizer}. left: layers that stay float, and why."""

    quantizers: dict[str, Quantizer]
    left: tuple[Left, ...]


def layers_of(graph: ir.Graph) -> list[ir.Node]:
    """Layers with a constant float weight of at least two axes, in order."""
    found = []
    for node in graph:
        weight = array_of(node.inputs[1]) if node.op_type in LAYERS and node.domain == "" else None
        if weight is not None and weight.dtype.kind == "f" and weight.ndim > 1 and is_float(node.inputs[0]):
            found.append(node)
    return found


def place_quantizers(graph: ir.Graph, config: QATConfig) -> Placed:
    """Errors (QuantizationError): no layer at all, a pattern of the configuration that matches none."""
    layers = layers_of(graph)
    if not layers:
        raise QuantizationError("the network has no convolution or product with a constant weight: nothing to quantize")
    check_patterns([str(layer.name) for layer in layers], config.layers)
    make = Maker(config, torch.device("cpu"), training=False)
    left: list[Left] = []
    quantizers: dict[str, Quantizer] = {}
    inputs: dict[tuple[ir.Value, LayerSettings], ir.Value] = {}
    for index, layer in enumerate(layers):
        settings = config.settings(str(layer.name), outer=index in (0, len(layers) - 1))
        weight = array_of(layer.inputs[1])
        assert weight is not None
        axes = output_channels_first(layer, weight.ndim)
        if settings is None or isinstance(axes, str):
            why = WISHED if settings is None else str(axes)
            FLOAT.write(layer, why)
            left.append(Left(str(layer.name), why))
            continue
        values = weight.transpose(axes)
        of_weight = make.weight(str(layer.name), settings, len(values))
        marker = put_weight(graph, layer, values, [], settings.weight_bits, axis=-1 if of_weight.axis is None else 0)
        quantizers[str(marker.outputs[0].name)] = of_weight
        x = layer.inputs[0]
        assert x is not None
        key = (x, _of_input(settings))
        if key not in inputs:
            quantizer = make.input(str(layer.name), settings)
            marked = insert_after(
                x, graph, MARKER, [x], f"{layer.name}.input_on_grid", domain=MARKER_DOMAIN, **quantizer.marks
            )
            inputs[key] = marked
            quantizers[str(marked.name)] = quantizer
        layer.replace_input_with(0, inputs[key])
    return Placed(quantizers, tuple(left))


def _of_input(settings: LayerSettings) -> LayerSettings:
    """Settings that are equal where those of the input are."""
    return replace(settings, weight_bits=8, weight_granularity="tensor")
