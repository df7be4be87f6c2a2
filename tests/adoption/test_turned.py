"""Operators with the channels last, as ONNX Runtime's optimizer writes them: the same numbers, and integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import torch

from lsq_export.adoption.network import OnnxNetwork, read_quantized
from lsq_export.graph.read import is_marker
from support.adopted import adopted_outputs, differing, file_outputs

RNG = np.random.default_rng(0)
GRIDS = {
    **{f"s{i}": np.float32(scale) for i, scale in enumerate((0.03, 0.01, 0.11, 0.09))},
    **{f"z{i}": np.uint8(zero) for i, zero in enumerate((120, 0, 100, 90))},
    "zw": np.int8(0),
    "w": RNG.integers(-127, 128, (6, 4, 3, 3)).astype(np.int8),
    "v": RNG.integers(-127, 128, (6, 6, 1, 1)).astype(np.int8),
}
CONV = "com.microsoft.QLinearConv<channels_last = 1, pads = [1, 1, 1, 1]>"
MEAN = "com.microsoft.QLinearGlobalAveragePool<channels_last = 1>"
NET = (
    "q = QuantizeLinear(x, s0, z0) t = Transpose<perm = [0, 2, 3, 1]>(q)"
    f" c = {CONV}(t, s0, z0, w, s1, zw, s2, z2)"
    " d = com.microsoft.QLinearConv<channels_last = 1>(c, s2, z2, v, s1, zw, s3, z3)"
    " p = com.microsoft.QLinearAveragePool<channels_last = 1, kernel_shape = [2, 2]>(d, s3, z3, s3, z3)"
)


def _read(path: Path, text: str) -> OnnxNetwork:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g (float[N, 4, 6, 5] x) => (float y) '
        f"{{ {text} }}"
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in GRIDS.items())
    onnx.save(model, path / "net.onnx")
    return read_quantized(path / "net.onnx")


@pytest.mark.parametrize(
    ("end", "turns"),
    [
        ("e = Transpose<perm = [0, 3, 1, 2]>(p) y = DequantizeLinear(e, s3, z3)", 0),
        ("y = DequantizeLinear(p, s3, z3)", 1),
        (f"e = {MEAN}(p, s3, z3, s3, z3) y = DequantizeLinear(e, s3, z3)", 1),
    ],
)
def test_it_computes_what_the_file_does(end: str, turns: int, tmp_path: Path) -> None:
    network = _read(tmp_path, f"{NET} {end}")
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 4, 6, 5)).astype(np.float32))
    found = adopted_outputs(network, x)
    assert found.shape == file_outputs(network, x).shape and differing(found, file_outputs(network, x)) == 0
    graph = network.captured.model.graph
    assert not network.left and len([node for node in graph if is_marker(node)]) >= 5
    assert sum(node.op_type == "Transpose" for node in graph) == turns
