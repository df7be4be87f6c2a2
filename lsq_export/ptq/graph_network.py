"""A float ONNX graph as a PyTorch module, with a quantizer at each of its markers.

network = GraphNetwork(model, quantizers)       calib.initialize(network, batches)      network.captured(path)
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from calib.samples import Samples
from lsq_export.adoption.network import as_captured
from lsq_export.graph.capture import Captured
from lsq_export.graph.edit import constant, copy
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.read import attribute, is_marker
from lsq_export.qat.quantizer import Quantizer


class GraphNetwork(nn.Module):
    """forward: the outputs of the graph, in float32, each marker being its quantizer.

    model: with markers that have no grids. quantizers: {output of a marker: its quantizer}.
    """

    def __init__(self, model: ir.Model, quantizers: Mapping[str, Quantizer]) -> None:
        super().__init__()
        self.model = model
        self.grids = nn.ModuleList(quantizers.values())
        self._by_output = dict(quantizers)
        names = [str(value.name) for value in model.graph.inputs]
        self.takes_integers = any(v.dtype is not None and not v.dtype.is_floating_point() for v in model.graph.inputs)
        self.forward = _with_parameters(self._evaluated, names)
        self.eval()

    def _evaluated(self, *xs: torch.Tensor) -> Any:
        graph = self.model.graph
        names = [str(value.name) for value in graph.inputs]
        x: Any = xs[0] if len(xs) == 1 else Samples(dict(zip(names, xs, strict=True)))
        outputs = evaluate(graph, x, dtype=torch.float32, on_node=self._on_node)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _on_node(self, made: ir.Value, inputs: list[torch.Tensor | None], result: torch.Tensor) -> torch.Tensor | None:
        quantizer = self._by_output.get(str(made.name))
        return None if quantizer is None else quantizer(result)

    def quantizer(self, marker: ir.Node) -> Quantizer:
        """The one of a marker of the graph."""
        return self._by_output[str(marker.outputs[0].name)]

    def captured(self, path: str | os.PathLike[str]) -> Captured:
        """The graph, with the grids of the quantizers in its markers; a copy."""
        model = copy(self.model)
        for node in list(model.graph):
            if is_marker(node):
                _give_grid(model.graph, node, self.quantizer(node))
        return as_captured(model, path)


def _give_grid(graph: ir.Graph, marker: ir.Node, quantizer: Quantizer) -> None:
    name = attribute(marker, "quantizer")
    grid = (quantizer.scale.detach(), quantizer.effective_offset.detach())
    arrays = [value.cpu().numpy().astype(np.float32) for value in grid]
    marker.resize_inputs(3)
    for index, (what, array) in enumerate(zip(("scale", "offset"), arrays, strict=True), 1):
        marker.replace_input_with(index, constant(graph, f"{name}.trained_{what}", array))
    if quantizer.axis is None:
        marker.attributes["axis"] = ir.AttrInt64("axis", -1)


def _with_parameters(function: Any, names: list[str]) -> Any:
    """The function, with parameters of these names as far as Python can name one so."""
    known = [name if name.isidentifier() else f"input_{index}" for index, name in enumerate(names)]

    def forward(*positional: torch.Tensor, **by_name: torch.Tensor) -> Any:
        return function(*positional, *(by_name[name] for name in known[len(positional) :]))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    forward.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in known])  # type: ignore[attr-defined]
    return forward
