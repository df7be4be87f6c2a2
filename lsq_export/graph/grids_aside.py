"""While torch exports a model, quantizers are their markers alone, without scales and offsets.

    FakeQuantize(x)  =>  FakeQuantize(x; s, β)      after the export, from the quantizer of that name

torch's exporter takes its time for each tensor of a model, and for each operator in several passes: a quantizer has
four tensors, and an offset that is a multiple of s is eight operators. Without them an export takes half as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir
from torch import nn

from lsq_export.qat.prepare_model import quantizers
from lsq_export.qat.quantizer import Quantizer

from .edit import constant
from .read import attribute, is_marker

Grids = Mapping[str, tuple[np.ndarray, np.ndarray]]  # {quantizer: (s, β)}, float32 [] or [C]


def _grids_of(model: nn.Module) -> Grids:
    """Of all quantizers, as forward uses them."""
    return {
        quantizer.name: tuple(v.detach().cpu().numpy() for v in (quantizer.scale, quantizer.effective_offset))
        for quantizer in quantizers(model).values()
    }


@contextmanager
def grids_aside(model: nn.Module) -> Iterator[Callable[[ir.Graph], None]]:
    """Inside this block quantizers have no tensors, and can do nothing but be exported.

    Yields what gives the markers of the exported graph their scales and offsets.
    """
    grids = _grids_of(model)
    found = [quantizer for quantizer in quantizers(model).values() if isinstance(quantizer, Quantizer)]
    before = [(dict(quantizer._parameters), dict(quantizer._buffers)) for quantizer in found]
    try:
        for quantizer in found:
            quantizer._parameters.clear()
            quantizer._buffers.clear()
            quantizer.marks_alone = True
        yield lambda graph: _give_grids(graph, grids)
    finally:
        for quantizer, (parameters, buffers) in zip(found, before, strict=True):
            quantizer._parameters.update(parameters)
            quantizer._buffers.update(buffers)
            quantizer.marks_alone = False


def _give_grids(graph: ir.Graph, grids: Grids) -> None:
    """The inputs s and β of all markers."""
    made: dict[str, list[ir.Value]] = {}
    for marker in (node for node in graph if is_marker(node)):
        name = str(attribute(marker, "quantizer"))
        if name not in made:
            parts = zip(("scale", "offset"), grids[name], strict=True)
            made[name] = [constant(graph, f"{name}.{what}", array) for what, array in parts]
        marker.resize_inputs(3)
        for index, value in enumerate(made[name], 1):
            marker.replace_input_with(index, value)
