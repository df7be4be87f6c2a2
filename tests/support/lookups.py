"""Small files with nodes lsq_export::Lookup and the functions that stand for them, and sessions that run these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from lsq_export.kernels import DOMAIN

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
SILU = ("codes", "table", "scale", "zero", "gate_scale", "gate_zero", "out_scale", "out_zero")


def element(dtype: Any) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def gather(dtype: Any, name: str) -> onnx.FunctionProto:
    """What a node does with codes of this type, in stock operators."""
    nodes = [helper.make_node("Cast", ["codes"], ["wide"], to=onnx.TensorProto.INT32)]
    if np.dtype(dtype) == np.int8:
        lowest = numpy_helper.from_array(np.array(128, np.int32))
        nodes += [
            helper.make_node("Constant", [], ["lowest"], value=lowest),
            helper.make_node("Add", ["wide", "lowest"], ["index"]),
        ]
    nodes.append(helper.make_node("Gather", ["table", "index" if len(nodes) > 1 else "wide"], ["entries"]))
    return helper.make_function(DOMAIN, name, ["codes", "table"], ["entries"], nodes, OPSETS)


def silu(name: str) -> onnx.FunctionProto:
    """A SiLU in stock operators; its inputs are SILU, none of which it gets from the table."""
    codes, _, scale, zero, gate_scale, gate_zero, out_scale, out_zero = SILU
    gate = helper.make_node(
        "QLinearSigmoid", [codes, scale, zero, gate_scale, gate_zero], ["gate"], domain="com.microsoft"
    )
    product = [codes, scale, zero, "gate", gate_scale, gate_zero, out_scale, out_zero]
    nodes = [gate, helper.make_node("QLinearMul", product, ["entries"], domain="com.microsoft")]
    return helper.make_function(DOMAIN, name, list(SILU), ["entries"], nodes, OPSETS)


def file(
    codes: Any,
    nodes: Sequence[onnx.NodeProto],
    out: Any,
    constants: dict[str, np.ndarray],
    functions: Sequence[onnx.FunctionProto],
    fed: Sequence[str] = (),
) -> bytes:
    """Nodes from "codes" (this type, any shape) to "entries" (type `out`); constants in `fed` become inputs."""
    inputs = [helper.make_tensor_value_info("codes", element(codes), None)]
    inputs += [helper.make_tensor_value_info(name, element(constants[name].dtype), None) for name in fed]
    outputs = [helper.make_tensor_value_info("entries", element(out), None)]  # of any shape
    kept = [numpy_helper.from_array(value, name) for name, value in constants.items() if name not in fed]
    graph = helper.make_graph(nodes, "lookups", inputs, outputs, kept)
    opsets = [*OPSETS, helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, functions=list(functions), opset_imports=opsets, ir_version=9)
    return bytes(model.SerializeToString())


def lookup(name: str, inputs: Sequence[str] = ("codes", "table"), output: str = "entries") -> onnx.NodeProto:
    return helper.make_node(name, list(inputs), [output], name=f"node of {output}", domain=DOMAIN)


def one(codes: Any, table: np.ndarray, fed: Sequence[str] = (), name: str = "Lookup2") -> bytes:
    """One node, with Gather as its function."""
    return file(codes, [lookup(name)], table.dtype, {"table": table}, [gather(codes, name)], fed)


def session(
    model: bytes, library: Path | None, *, threads: int = 1, level: Any = None, optimized: Path | None = None
) -> onnxruntime.InferenceSession:
    """A session with the library, or without one. optimized: where the graph that it runs is written."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    if level is not None:
        options.graph_optimization_level = level
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if library is not None:
        options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def session_of_kernel(model: bytes, library: Path, kernel: str) -> onnxruntime.InferenceSession:
    """One with the library on two threads, where LSQ_EXPORT_KERNEL is that; skips what this processor cannot run."""
    try:
        return session(model, library, threads=2)
    except Exception as error:
        assert "LSQ_EXPORT_KERNEL names no kernel" in str(error) and kernel not in ("", "portable")
        pytest.skip(f"this processor cannot run {kernel}")
