"""UINT8 weights with any zero point, as quantize_static writes them: they stay UINT8, and the layers integer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from onnx import numpy_helper

import lsq_export
from lsq_export.adoption.layers import fits_8_bits
from lsq_export.rewrite.normalizing.for_target import TOO_WIDE

RNG = np.random.default_rng(5)
NET = """
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g (float[N, 3, 6, 6] x) => (float[N, 5] y) {
    q = QuantizeLinear(x, sx, zx)
    c = QLinearConv<pads = [1, 1, 1, 1]>(q, sx, zx, w, sw, zw, sc, zc, b)
    d = QLinearConv<group = 8, pads = [1, 1, 1, 1]>(c, sc, zc, v, sv, zv, sd, zd)
    p = com.microsoft.QLinearGlobalAveragePool(d, sd, zd, sp, zp)
    f = Flatten(p)
    e = com.microsoft.QGemm<transB = 1>(f, sp, zp, u, su, zu, bu, se, ze)
    y = DequantizeLinear(e, se, ze)
}
"""


def _codes(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape).astype(np.uint8)


CONSTANTS = {
    **{f"s{name}": np.float32(scale) for name, scale in zip("xcdpe", (0.03, 0.08, 0.3, 0.1, 0.2), strict=True)},
    **{f"z{name}": np.uint8(zero) for name, zero in zip("xcdpe", (128, 100, 130, 120, 128), strict=True)},
    "w": _codes(8, 3, 3, 3),
    "sw": np.float32(0.004),
    "zw": np.uint8(77),
    "b": RNG.integers(-4000, 4000, 8).astype(np.int32),
    "v": _codes(8, 1, 3, 3),
    "sv": RNG.uniform(0.005, 0.02, 8).astype(np.float32),
    "zv": RNG.integers(0, 256, 8).astype(np.uint8),
    "u": _codes(5, 8),
    "su": np.float32(0.01),
    "zu": np.uint8(190),
    "bu": RNG.integers(-4000, 4000, 5).astype(np.int32),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = onnx.parser.parse_model(NET)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in CONSTANTS.items())
    path = tmp_path_factory.mktemp("wide") / "net.onnx"
    onnx.save(model, path)
    return path


def _adopted(file: Path, out: Path, target: str) -> lsq_export.Bundle:
    batches = [torch.randn(16, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    bundle = lsq_export.adopt(file, out, calibration=batches, target=target)
    assert bundle.parity is not None and bundle.parity.ok, bundle.parity
    assert bundle.parity.capture_error == 0
    return bundle


def test_they_stay_uint8_and_exact(file: Path, tmp_path: Path) -> None:
    bundle = _adopted(file, tmp_path / "out", "ort-cpu")
    assert bundle.parity is not None and bundle.parity.folded_sqnr_db > 40
    assert not bundle.manifest.get("islands")
    assert {layer["container"] for layer in bundle.manifest["layers"]} == {"UINT8"}
    model = onnx.load(bundle.models["qoperator"])
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    convs = [node for node in model.graph.node if node.op_type == "QLinearConv"]
    zeros = [np.unique(constants[node.input[5]]).tolist() for node in convs]
    assert len(zeros[0]) == 1 and zeros[0] != [128]  # one that holds all channels, where there is one
    assert len(zeros) == 2 and len(zeros[1]) > 1


def test_receivers_of_int8_alone_get_them_as_floats(file: Path, tmp_path: Path) -> None:
    bundle = _adopted(file, tmp_path / "out", "openvino")
    assert TOO_WIDE in {island["why"] for island in bundle.manifest["islands"]}


def test_codes_over_more_than_a_byte_fit_no_container() -> None:
    assert fits_8_bits(np.array([[0, 255], [-255, 0], [-100, 155]]))
    assert not fits_8_bits(np.array([[-100, 156]]))
    assert not fits_8_bits(np.array([[1, 256]]))  # zero has to be one of them
