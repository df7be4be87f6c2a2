"""A quantized ONNX file of any maker -> `Captured`, from which all goes the way of a trained PyTorch model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch

from calib.errors import QuantizationError
from calib.samples import Input, arrays_of, named
from calib.signature import Takes
from lsq_export.graph.capture import Captured, number_uses
from lsq_export.graph.edit import clean, copy
from lsq_export.graph.evaluate import takes_one
from lsq_export.graph.read import MARKER_DOMAIN, attribute, bytes_of_constants, is_marker
from lsq_export.qat.origins import ADOPTED
from lsq_export.verification.runtime import Session, inputs_of

from .code_sums import give_scales_back
from .encodings import place_encodings, read_encodings
from .expand import expand_operators
from .grids import CONTRIB, DEQUANTIZE, QUANT, QUANTIZE, is_grid
from .group_norms import spell_group_norms
from .layers import weight_to_marker
from .left import Left
from .lost_limits import without_limits
from .markers import place_markers
from .moved_codes import move_values
from .qonnx import spell_out
from .reading import read_network
from .sizes import fix_sizes, input_shape, is_open
from .windows import spell_windows

IR_VERSION = 10


@dataclass(frozen=True)
class OnnxNetwork:
    """A network of an ONNX file. name: of the file. captured: with a marker for each grid of the file.

    left: what stays float, and why. plain: what the file computes, as an ONNX model of float operators and grids.
    trained: that is what was trained, so that the captured network has to compute the same. led: as `Takes` has it.
    unlimited: layers whose inputs may have had limits in training that the file lacks (`lost_limits.py`). origin: how
    its grids came to be (`qat/origins.py`).
    """

    name: str
    captured: Captured
    left: tuple[Left, ...]
    plain: onnx.ModelProto
    trained: bool = True
    led: Mapping[str, int] = field(default_factory=dict)
    unlimited: tuple[str, ...] = ()
    origin: str = ADOPTED

    @property
    def takes(self) -> Takes:
        """Its inputs."""
        return replace(takes_of_graph(self.captured.model.graph), led=self.led)

    @property
    def size(self) -> int:
        """Bytes of its constants."""
        return bytes_of_constants(self.captured.model.graph)

    @property
    def classes(self) -> int | None:
        """How many numbers the first output has for a sample, if it is [N, classes]."""
        shape = self.captured.model.graph.outputs[0].shape
        size = shape[1] if shape is not None and len(shape) == 2 else None
        return size if isinstance(size, int) else None

    def outputs(self, x: Input) -> list[np.ndarray]:
        """What the file makes of a batch [N, …] in ONNX Runtime, which optimizes nothing."""
        arrays = named(arrays_of(x), inputs_of(self.plain))
        return list(self._session.run(arrays).values())

    @cached_property
    def _session(self) -> Session:
        return Session(self.plain, "disabled", what=self.name)


def takes_of_graph(graph: ir.Graph) -> Takes:
    """What the inputs of a graph are."""
    given = graph.inputs
    types = {
        str(value.name): torch.from_numpy(np.empty(0, value.dtype.numpy())).dtype
        for value in given
        if value.dtype is not None and value.dtype.is_integer() and value.dtype.numpy().kind == "i"
    }
    integers = any(value.dtype is not None and not value.dtype.is_floating_point() for value in given)
    return Takes(tuple(str(value.name) for value in given), len(given), integers, types)


SizesFrom = Callable[[Any, Takes], "Input | None"]  # (sizes, None where they are open; what inputs are) -> a batch


def read_quantized(
    path: str | os.PathLike[str],
    encodings: str | os.PathLike[str] | None = None,
    sizes_from: SizesFrom | None = None,
) -> OnnxNetwork:
    """The network of a quantized ONNX file of any maker.

    encodings: a file that has the grids of a float one, as AIMET writes it (`encodings.py`). sizes_from: what is asked
    for a batch where the file leaves sizes open, which then become those of the batch.
    Errors (QuantizationError): those of `read_network` and `read_encodings`; a file without grids, or with open sizes.
    """
    model = read_network(path)
    graph = model.graph
    give_names(graph)
    sizes = input_shape(model)
    if sizes_from is not None and is_open(sizes) and (x := sizes_from(sizes, takes_of_graph(graph))) is not None:
        fix_sizes(graph, x, path)
    expand_operators(graph)
    if encodings is not None:
        return _with_encodings(model, path, encodings)
    if not any(is_grid(node) for node in graph):
        raise QuantizationError(
            f"{path}: no tensor in it is on a grid: it is a float network, and lsq-export adopt takes quantized ones; "
            "lsq-export calibrate takes this one"
        )
    infer_spelled(model)
    plain = _runnable(model)
    give_scales_back(model)
    unlimited = without_limits(graph)
    move_values(graph)
    left = place_markers(model)
    return OnnxNetwork(Path(path).name, as_captured(model, path), tuple(left), plain, unlimited=unlimited)


def _with_encodings(model: ir.Model, path: str | os.PathLike[str], encodings: str | os.PathLike[str]) -> OnnxNetwork:
    """What was trained is the float graph on these grids, which only the tool itself computes."""
    infer_spelled(model)
    plain = ir.to_proto(model)
    left = place_encodings(model.graph, read_encodings(encodings))
    left += [found for node in list(model.graph) if (found := weight_to_marker(model.graph, node)) is not None]
    return OnnxNetwork(Path(path).name, as_captured(model, path), tuple(left), plain, trained=False)


def as_captured(model: ir.Model, path: str | os.PathLike[str]) -> Captured:
    """A graph with markers, whose grids may not be known yet, as `capture` gives it.

    Errors (QuantizationError): open sizes.
    """
    graph = model.graph
    _open_batch(graph)
    infer_spelled(model)
    number_uses(graph)
    graph.opset_imports[MARKER_DOMAIN] = 1
    used = {node.domain for node in graph}
    for domain in [domain for domain in graph.opset_imports if domain and domain not in used]:
        del graph.opset_imports[domain]
    return Captured(model, _shape(graph, path), takes_one(graph), one_by_one=True)


def _runnable(model: ir.Model) -> onnx.ModelProto:
    """Grids of all types are com.microsoft's here, which operator set 20 has only of 8 bits."""
    plain = copy(model)
    for node in list(plain.graph):
        if is_grid(node, QUANTIZE, DEQUANTIZE):
            node.domain = CONTRIB
        elif is_grid(node, QUANT):
            spell_out(plain.graph, node)
    clean(plain)
    plain.graph.opset_imports[CONTRIB] = 1
    plain.ir_version = IR_VERSION
    return ir.to_proto(plain)


def give_names(graph: ir.Graph) -> None:
    """Every node has a name of its own: layers and reports are called by it."""
    seen: Counter[str] = Counter()
    for node in graph:
        name = (node.name or f"{node.op_type}").strip("/") or node.op_type
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name] - 1}"


def _open_batch(graph: ir.Graph) -> None:
    """A batch that is fixed, but not to one, varies."""
    sizes = {value.shape[0] for value in graph.inputs if value.shape is not None and len(value.shape)}
    fixed = next(iter(sizes)) if len(sizes) == 1 else None
    if isinstance(fixed, int) and fixed == 1:
        return
    for value in graph.inputs:
        if value.shape is not None and len(value.shape):
            value.shape = ir.Shape([ir.SymbolicDim("batch"), *list(value.shape)[1:]])
    for node in graph:
        if not (is_marker(node) and attribute(node, "kind") == "weight"):
            for value in node.outputs:
                value.shape = None


def infer_spelled(model: ir.Model) -> None:
    """Types and shapes, and with these what operators leave to be worked out."""
    infer(model)
    spell_windows(model.graph)
    spell_group_norms(model.graph)
    clean(model)


def infer(model: ir.Model) -> None:
    """Types and shapes as onnx infers them, markers being identities."""
    plain = copy(model)
    for node in plain.graph:
        if is_marker(node):
            node.domain, node.op_type = "", "Identity"
            node.attributes.clear()
            node.resize_inputs(1)
        elif is_grid(node):
            node.domain = ""
    inferred = ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(plain), data_prop=True))
    known = {v.name: v for node in inferred.graph for v in node.outputs}
    for value in (v for node in model.graph for v in node.outputs):
        found = known.get(value.name)
        if found is not None and found.type is not None:
            value.type = found.type
            value.shape = value.shape if found.shape is None else found.shape


def _shape(graph: ir.Graph, path: Any) -> Any:
    """As `Captured.input_shape`."""
    shapes = {}
    for value in graph.inputs:
        sizes = list(value.shape)[1:] if value.shape is not None else [None]
        if not all(isinstance(size, int) for size in sizes):
            raise QuantizationError(
                f"{path}: the input {value.name} has the shape {[str(size) for size in value.shape or ()]}: fix all "
                "sizes but the batch"
            )
        shapes[str(value.name)] = tuple(sizes)
    return next(iter(shapes.values())) if len(shapes) == 1 else shapes
