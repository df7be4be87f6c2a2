"""What is reconstructed: a graph with markers, their quantizers, and the weights that can be written back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import nn
from torch.nn.utils import parametrize

from calib.samples import Input
from lsq_export.graph.capture import capture
from lsq_export.graph.read import array_of, attribute, is_marker
from lsq_export.ptq.graph_network import GraphNetwork
from lsq_export.qat.layer_types import TransposedWeight
from lsq_export.qat.prepare_model import quantizers
from lsq_export.qat.quantizer import Quantizer


@dataclass(frozen=True)
class Subject:
    """quantizers: by the names in markers. weights: {name of the quantizer: float weight, output channels first}.

    write(name, weight): gives the layer this weight, in the same order.
    """

    graph: ir.Graph
    quantizers: Mapping[str, Quantizer]
    weights: Mapping[str, torch.Tensor]
    write: Callable[[str, torch.Tensor], None]

    def once(self) -> set[str]:
        """Names of quantizers with one use: another use sees other data, for which nothing would be learned."""
        uses: Counter[str] = Counter()
        for node in self.graph:
            if is_marker(node):
                of_weight = attribute(node, "kind") == "weight"  # its readers are the uses
                uses[self.quantizer_of(node).name] += len(node.outputs[0].uses()) if of_weight else 1
        return {name for name, count in uses.items() if count == 1}

    def quantizer_of(self, marker: ir.Node) -> Quantizer:
        """Its quantizer; a second use is called NAME_1, a third NAME_2."""
        name = str(attribute(marker, "quantizer"))
        return self.quantizers[name if name in self.quantizers else name.rpartition("_")[0]]

    def on_first_grids(self, marker: ir.Node, x: torch.Tensor) -> torch.Tensor:
        """What a marker makes of its input, as long as nothing is learned."""
        return torch.as_tensor(self.quantizer_of(marker)(x))

    def state(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """A copy of all grids, for `restore`."""
        return {name: (q.scale.detach().clone(), q.offset.detach().clone()) for name, q in self.quantizers.items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
        """The grids as they were."""
        for name, (scale, offset) in state.items():
            self.quantizers[name].scale.copy_(scale)
            self.quantizers[name].offset.copy_(offset)


def of_network(network: GraphNetwork) -> Subject:
    """A float ONNX file with quantizers."""
    by_name = {q.name: q for q in network.grids if isinstance(q, Quantizer)}
    found: dict[str, ir.Value] = {}
    for node in network.model.graph:
        if is_marker(node) and attribute(node, "kind") == "weight" and array_of(node.inputs[0]) is not None:
            value = node.inputs[0]
            assert value is not None
            found[str(attribute(node, "quantizer"))] = value
    weights = {name: torch.from_numpy(array.copy()) for name, v in found.items() if (array := array_of(v)) is not None}

    def write(name: str, weight: torch.Tensor) -> None:
        found[name].const_value = ir.tensor(weight.numpy(), name=found[name].name)

    return Subject(network.model.graph, by_name, weights, write)


def of_module(model: nn.Module, batch: Input) -> Subject:
    """A prepared PyTorch network that has grids. batch: an input [N, …]; the
    graph takes batches of this size.

    Weights that a layer makes itself, and those with other parametrizations, are rounded as they are.
    Errors (QuantizationError): those of `capture`.
    """
    by_name = {name: q for name, q in quantizers(model).items() if isinstance(q, Quantizer)}
    layers: dict[str, nn.Module] = {}
    for layer in model.modules():
        if not parametrize.is_parametrized(layer, "weight"):
            continue
        (first, *more) = layer.parametrizations["weight"]  # type: ignore[index]
        quantizer = first.quantizer if isinstance(first, TransposedWeight) else first
        if isinstance(quantizer, Quantizer) and not more:
            layers[quantizer.name] = layer
    weights = {name: _turned(layer, _original(layer).detach().cpu()) for name, layer in layers.items()}

    def write(name: str, weight: torch.Tensor) -> None:
        original = _original(layers[name])
        with torch.no_grad():
            original.copy_(_turned(layers[name], weight))

    return Subject(capture(model, batch, quick=len(batch) > 1).model.graph, by_name, weights, write)


def _original(layer: nn.Module) -> torch.Tensor:
    return torch.as_tensor(layer.parametrizations["weight"].original)  # type: ignore[index,union-attr]


def _turned(layer: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """Between a layer's own order and that with output channels first; twice is nothing."""
    (first,) = layer.parametrizations["weight"]  # type: ignore[index]
    return first.swapped(weight) if isinstance(first, TransposedWeight) else weight
