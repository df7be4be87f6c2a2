"""While torch exports a model, quantizers are their markers alone, without scales and offsets.

    FakeQuantize(x; name)  =>  FakeQuantize(x, s, β; bits, …)       after the export, from the quantizer of that name

torch's exporter takes its time for each tensor of a model, and for each operator in several passes: a quantizer has
four tensors, and an offset that is a multiple of s is eight operators. Without them an export takes half as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from torch import nn

from lsq_export.qat.prepare_model import quantizers
from lsq_export.qat.quantizer import Quantizer

from .edit import constant
from .read import MARKER, MARKER_DOMAIN, attribute, is_marker


@dataclass(frozen=True)
class _Grid:
    """scale, offset: float32 [] or [C], as forward uses them. marks: the attributes of the marker."""

    scale: np.ndarray
    offset: np.ndarray
    marks: Mapping[str, Any]

    @staticmethod
    def of(quantizer: Quantizer) -> _Grid:
        scale, offset = (v.detach().cpu().numpy() for v in (quantizer.scale, quantizer.effective_offset))
        return _Grid(scale, offset, quantizer.marks)


Grids = Mapping[str, _Grid]  # by the quantizer's name


@contextmanager
def grids_aside(model: nn.Module) -> Iterator[Callable[[ir.Graph], None]]:
    """Inside this block quantizers have no tensors, and can do nothing but be exported.

    Yields what gives the markers of the exported graph their scales and offsets.
    """
    found = [quantizer for quantizer in quantizers(model).values() if isinstance(quantizer, Quantizer)]
    grids = {quantizer.name: _Grid.of(quantizer) for quantizer in found}
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
    """The inputs s and β of all markers, and their attributes."""
    made: dict[str, list[ir.Value]] = {}
    for marker in (node for node in graph if is_marker(node)):
        name = str(attribute(marker, "quantizer"))
        grid = grids[name]
        if name not in made:
            parts = (("trained_scale", grid.scale), ("trained_offset", grid.offset))
            made[name] = [constant(graph, f"{name}.{what}", array) for what, array in parts]
        marker.attributes.update({key: _attribute(key, value) for key, value in grid.marks.items()})
        marker.resize_inputs(3)
        for index, value in enumerate(made[name], 1):
            marker.replace_input_with(index, value)


def _attribute(name: str, value: int | str) -> ir.Attr:
    return ir.AttrInt64(name, value) if isinstance(value, int) else ir.AttrString(name, value)


def marker_of(x: Any, name: str) -> Any:
    """What `torch.onnx.export` makes of lsq_export::mark, as onnxscript writes it."""
    return _marker()(x, quantizer=name)


@cache
def _marker() -> Any:
    from onnxscript.values import Op, Opset

    define = onnx.defs.OpSchema
    schema = define(
        MARKER,
        MARKER_DOMAIN,
        1,
        inputs=[define.FormalParameter("x", "T")],
        outputs=[define.FormalParameter("y", "T")],
        type_constraints=[("T", ["tensor(float)"], "")],
        attributes=[define.Attribute("quantizer", define.AttrType.STRING)],
    )
    return Op(Opset(MARKER_DOMAIN, 1), MARKER, schema)
