"""lsq_export/adoption/moved_codes.py: codes that are pooled, padded and moved before anybody makes values of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import lsq_export
from lsq_export.adoption.network import read_quantized
from lsq_export.graph.read import is_marker

GRID = ["y_scale", "y_zero"]


def constant(name: str, array: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(array, name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """As `quantize_static` writes QOperator: a convolution's codes go through four operators, and a part of them is put
    onto a grid that is called as the tensor that it reads.
    """
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_codes"], "first"),
        helper.make_node(
            "QLinearConv",
            ["x_codes", "x_scale", "x_zero", "w", "w_scale", "w_zero", *GRID, "b"],
            ["y_codes"],
            "conv",
            pads=[1, 1, 1, 1],
        ),
        helper.make_node("MaxPool", ["y_codes"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Pad", ["pooled", "pads", "pad_code"], ["padded"], "pad"),
        helper.make_node("Transpose", ["padded"], ["turned"], "turn", perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["turned", "shape"], ["tokens"], "tokens"),
        helper.make_node("DequantizeLinear", ["tokens", *GRID], ["values"], "values"),
        helper.make_node("Slice", ["values", "from", "to", "last"], ["part"], "part"),
        helper.make_node("QuantizeLinear", ["part", "p_scale", "y_zero"], ["part_codes"], "onto"),
        helper.make_node("DequantizeLinear", ["part_codes", "p_scale", "y_zero"], ["z"], "out"),
    ]
    constants = {
        "x_scale": np.float32(0.03),
        "x_zero": np.uint8(128),
        "w": rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "w_scale": np.float32(0.004),
        "w_zero": np.int8(0),
        "b": rng.integers(-2000, 2000, 4).astype(np.int32),
        "y_scale": np.float32(0.021),
        "y_zero": np.uint8(100),
        "p_scale": np.float32(0.0123),
        "pads": np.array([0, 0, 1, 0, 0, 0, 0, 1]),
        "pad_code": np.uint8(117),
        "shape": np.array([-1, 25, 4]),
        "from": np.array([1]),
        "to": np.array([3]),
        "last": np.array([2]),
    }
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])]
    made = [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 25, 2])]
    stored = [constant(name, np.asarray(array)) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "net", given, made, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_grids_of_moved_codes_are_pairs(path: Path) -> None:
    network = read_quantized(path)
    graph = network.captured.model.graph
    assert not network.left and not any(node.op_type == "QuantizeLinear" for node in graph)
    order = [node.op_type for node in graph if not (is_marker(node) and "weight" in str(node.name))]
    moved = ["MaxPool", "Pad", "Transpose", "Reshape", "Slice"]
    assert order == ["FakeQuantize", "Conv", "FakeQuantize", *moved, "FakeQuantize"]


def test_the_file_is_adopted_without_a_difference(path: Path, tmp_path: Path) -> None:
    batches = [torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    bundle = lsq_export.adopt(path, tmp_path / "out", calibration=batches)
    parity = bundle.parity
    assert parity is not None and parity.ok, parity.failures
    assert parity.capture_error == 0 and parity.folded_sqnr_db > 100
    assert not bundle.manifest.get("islands") and len(bundle.manifest["layers"]) == 1


def test_values_of_another_grid_stay_where_they_are(path: Path, tmp_path: Path) -> None:
    """Codes of one grid that are read on another are no pair: that is said, and computed as the file has it."""
    model = onnx.load(path)
    next(node for node in model.graph.node if node.name == "values").input[1] = "p_scale"
    onnx.save(model, path)
    assert read_quantized(path).left
