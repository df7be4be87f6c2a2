"""An ONNX file of any maker -> a graph of operator set 20 in which what is constant is stored.

functions of the file        =>  what they are made of
operator sets 7 to 19        =>  20 (onnx's own converter)
float16, bfloat16            =>  float32 (halves.py)
Constant, Identity(c), …     =>  initializers, unless they put values onto a grid
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter
import onnx_ir as ir
import torch

from calib.errors import QuantizationError, one_line
from lsq_export.graph.edit import clean, constant
from lsq_export.graph.read import array_of
from lsq_export.graph.stock import run_stock
from lsq_export.inspection.onnx_read import load_model

from .grids import CONTRIB, DEQUANTIZE, QUANT, QUANTIZE, is_grid
from .halves import widen_halves

OPSET = 20  # of captured graphs
OLDEST, NEWEST = 7, 27  # ONNX Runtime 1.32 runs operator sets up to 27
KEPT = frozenset({QUANTIZE, DEQUANTIZE, QUANT})  # on constants, too: they say which grid a weight has
INDEXED = ("Slice", "Gather", "GatherElements", "GatherND")  # others take int64 alone
LARGEST = 2**24  # elements of a constant that is computed here
REFUSED = {
    "trt": "TensorRT's own operators on floats, as ModelOpt writes 4-bit models: they hold no integers; export the "
    "model at 8 bits, or adopt its checkpoint",
    "mct_quantizers": "operators of Sony's mct-quantizers, which plain ONNX Runtime does not have: export with "
    "QuantizationFormat.FAKELY_QUANT",
    "com.amd.quark": "block formats of AMD Quark (BF16, BFP, MX), which are no integer grids",
    "org.openvinotoolkit": "OpenVINO's FakeQuantize: export with nncf.strip(strip_format=StripFormat.NATIVE)",
}
KNOWN = ("", "ai.onnx", CONTRIB, "qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")


def read_network(path: str | os.PathLike[str]) -> ir.Model:
    """The network of a file.

    Errors (QuantizationError): no ONNX file, missing external data, an operator set that nobody reads, operators of a
    domain that ONNX Runtime does not have.
    """
    path = Path(path)
    proto = load_model(path)
    proto = onnx.inliner.inline_local_functions(proto) if proto.functions else proto
    _check_domains(proto, path)
    model = ir.from_proto(_converted(proto, path))
    widen_halves(model, path)
    _check_made(model.graph, path)
    _check_numbers(model.graph, path)
    _sort(model.graph, path)
    _forget_constants_among_inputs(model.graph)
    _store_constants(model.graph)
    _widen_indices(model.graph)
    clean(model)
    model.graph.opset_imports[""] = OPSET
    return model


def _check_domains(proto: onnx.ModelProto, path: Path) -> None:
    for node in proto.graph.node:
        if node.domain in KNOWN:
            continue
        why = REFUSED.get(node.domain, "operators of a domain that ONNX Runtime does not have")
        raise QuantizationError(
            f"{path}: the node {node.name or node.output[0]} is {node.domain}::{node.op_type}: {why}"
        )


def _check_made(graph: ir.Graph, path: Path) -> None:
    """Errors (QuantizationError): a value that is read, and that nothing in the file makes."""
    given = {*graph.inputs, *graph.initializers.values()}
    read = [(str(node.name or node.op_type), value) for node in graph for value in node.inputs]
    for reader, value in (*read, *(("the network's output", output) for output in graph.outputs)):
        if value is not None and value.producer() is None and value not in given:
            raise QuantizationError(
                f"{path}: {reader} reads {value.name}, which nothing in the file makes: export the model again"
            )


def _check_numbers(graph: ir.Graph, path: Path) -> None:
    """Errors (QuantizationError): a constant with NaN; infinity is what masks are made of."""
    for name, value in graph.initializers.items():
        array = array_of(value)
        if array is not None and array.dtype.kind == "f" and np.isnan(array).any():
            raise QuantizationError(f"{path}: the constant {name} has NaN: export a network whose training went well")


def _sort(graph: ir.Graph, path: Path) -> None:
    try:
        graph.sort()
    except ValueError as error:
        raise QuantizationError(f"{path}: its nodes read each other in a circle: export the model again") from error


def _converted(proto: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Of operator set 20, or of a newer one, whose operators mean the same."""
    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), None)
    if opset is None or not OLDEST <= opset <= NEWEST:
        raise QuantizationError(
            f"{path}: operator set {opset}: export the model again, with one of {OLDEST} to {NEWEST}"
        )
    if opset >= OPSET:
        return proto
    try:
        return onnx.version_converter.convert_version(proto, OPSET)
    except Exception as error:  # RuntimeError and those of onnx's C++ code
        raise QuantizationError(
            f"{path}: onnx cannot convert operator set {opset} to {OPSET} ({one_line(error)[:160]}): export the model "
            f"again with opset_version={OPSET}"
        ) from error


def _forget_constants_among_inputs(graph: ir.Graph) -> None:
    """Old files list their weights among the inputs."""
    for value in [value for value in graph.inputs if value.name in graph.initializers]:
        graph.inputs.remove(value)


def _store_constants(graph: ir.Graph) -> None:
    for node in list(graph):
        if node.op_type in KEPT and is_grid(node):
            continue
        if any(isinstance(a.value, ir.Graph) for a in node.attributes.values()) or node.domain not in ("", "ai.onnx"):
            continue
        arrays = [None if v is None else array_of(v) for v in node.inputs]
        if any(a is None and v is not None for a, v in zip(arrays, node.inputs, strict=True)) or _is_random(node):
            continue
        if sum(a.size for a in arrays if a is not None) > LARGEST:
            continue
        if node.op_type == "Constant":
            stored = [array_of(node.outputs[0])]
        else:
            made = run_stock(node, [None if a is None else torch.from_numpy(a.copy()) for a in arrays])
            stored = [tensor.numpy() for tensor in made]
        for value, array in zip(node.outputs, stored, strict=False):
            if array is not None and not value.is_graph_output():
                value.replace_all_uses_with(constant(graph, str(value.name), array))


def _widen_indices(graph: ir.Graph) -> None:
    """int32 constants that are places, sizes or axes become int64, as torch's exporter writes them."""
    for node in graph:
        if node.domain not in ("", "ai.onnx") or node.op_type not in INDEXED:
            continue
        for index, value in list(enumerate(node.inputs))[1:]:
            array = array_of(value)
            if array is not None and array.dtype == np.int32:
                node.replace_input_with(index, constant(graph, f"{value.name}.int64", array.astype(np.int64)))  # type: ignore[union-attr]


def _is_random(node: ir.Node) -> bool:
    return node.op_type.startswith("Random") or node.op_type in ("Multinomial", "Bernoulli", "Dropout")
