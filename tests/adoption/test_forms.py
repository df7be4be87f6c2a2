"""Each form in which grids are written, as a small file: the adopted graph against ONNX Runtime, element by element."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import torch

from lsq_export.adoption.network import OnnxNetwork, read_quantized
from lsq_export.graph.read import attribute, is_marker
from support.adopted import adopted_outputs, differing, file_outputs

RNG = np.random.default_rng(0)
PAIR = "c{i} = QuantizeLinear({x}, s{i}, z{i}) d{i} = DequantizeLinear(c{i}, s{i}, z{i})"


def _read(tmp_path: Path, text: str, constants: dict[str, np.ndarray], opset: int = 17) -> OnnxNetwork:
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]> agraph {text}'
    )
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    return read_quantized(path)


def _same(network: OnnxNetwork, *shape: int) -> None:
    x = torch.from_numpy(np.random.default_rng(1).normal(size=shape).astype(np.float32))
    assert differing(adopted_outputs(network, x), file_outputs(network, x)) == 0


def _grid(zero_point: int, kind: type = np.uint8, scale: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    return np.float32(scale), kind(zero_point)


def _weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).integers(-127, 128, shape).astype(np.int8)


def _quantizers(network: OnnxNetwork) -> dict[str, tuple[int, int]]:
    markers = [node for node in network.captured.model.graph if is_marker(node)]
    return {attribute(m, "quantizer"): (attribute(m, "qmin"), attribute(m, "qmax")) for m in markers}


@pytest.mark.parametrize("zero_point", [0, 1, 127, 128, 255])
def test_codes_on_ties_are_those_of_the_file(tmp_path: Path, zero_point: int) -> None:
    """Inputs on ties of a grid of 0.5: an offset in place of the zero point would round half of them otherwise."""
    network = _read(
        tmp_path,
        "(float[N, 64] x) => (float[N, 64] y) { c = QuantizeLinear(x, s, z) y = DequantizeLinear(c, s, z) }",
        {"s": np.float32(0.5), "z": np.uint8(zero_point)},
    )
    x = torch.arange(-64, 64).reshape(2, 64) * 0.5 + 0.25
    assert np.array_equal(adopted_outputs(network, x), file_outputs(network, x))


def test_a_clip_of_codes_narrows_the_grid(tmp_path: Path) -> None:
    network = _read(
        tmp_path,
        "(float[N, 64] x) => (float[N, 64] y)"
        "{ c = QuantizeLinear(x, s, z) k = Clip(c, low, high) y = DequantizeLinear(k, s, z) }",
        {"s": np.float32(0.2), "z": np.uint8(4), "low": np.uint8(0), "high": np.uint8(15)},
    )
    assert _quantizers(network) == {"x": (-4, 11)}
    _same(network, 4, 64)


def test_one_grid_that_is_read_twice_is_one_marker(tmp_path: Path) -> None:
    s, z = _grid(100)
    network = _read(
        tmp_path,
        "(float[N, 8] x) => (float[N, 8] y) { c = QuantizeLinear(x, s, z) a = DequantizeLinear(c, s, z)"
        " b = DequantizeLinear(c, s, z) y = Add(a, b) }",
        {"s": s, "z": z},
    )
    assert list(_quantizers(network)) == ["x"]
    _same(network, 4, 8)


CONV = "w = DequantizeLinear(wq, ws, wz) y = Conv(d0, w)"
WEIGHTS = {
    "conv, a scale for each channel": (
        "w = DequantizeLinear <axis = 0> (wq, ws, wz) y = Conv(d0, w)",
        {"wq": _weight(6, 4, 3, 3), "ws": RNG.uniform(0.01, 0.02, 6).astype(np.float32), "wz": np.zeros(6, np.int8)},
    ),
    "conv, one scale": (CONV, {"wq": _weight(6, 4, 3, 3), "ws": np.float32(0.01), "wz": np.int8(0)}),
    "conv, uint8 weights that fit int8": (
        CONV,
        {"wq": RNG.integers(1, 255, (6, 4, 3, 3)).astype(np.uint8), "ws": np.float32(0.01), "wz": np.uint8(128)},
    ),
    "conv, uint8 weights with any zero point": (
        CONV,
        {"wq": RNG.integers(0, 256, (6, 4, 3, 3)).astype(np.uint8), "ws": np.float32(0.01), "wz": np.uint8(9)},
    ),
    "conv, uint8 weights, a zero point for each channel": (
        "w = DequantizeLinear <axis = 0> (wq, ws, wz) y = Conv(d0, w)",
        {
            "wq": RNG.integers(0, 256, (6, 4, 3, 3)).astype(np.uint8),
            "ws": RNG.uniform(0.01, 0.02, 6).astype(np.float32),
            "wz": np.array([0, 60, 127, 128, 200, 255], np.uint8),
        },
    ),
    "conv, float weights and a pair": (
        "wq = QuantizeLinear <axis = 0> (w0, ws, wz) w = DequantizeLinear <axis = 0> (wq, ws, wz) y = Conv(d0, w)",
        {
            "w0": RNG.normal(size=(6, 4, 3, 3)).astype(np.float32),
            "ws": RNG.uniform(0.01, 0.03, 6).astype(np.float32),
            "wz": np.zeros(6, np.int8),
        },
    ),
    "transposed conv": (
        "w = DequantizeLinear <axis = 1> (wq, ws, wz) y = ConvTranspose <strides = [2, 2]> (d0, w)",
        {"wq": _weight(4, 6, 3, 3), "ws": RNG.uniform(0.01, 0.02, 6).astype(np.float32), "wz": np.zeros(6, np.int8)},
    ),
    "conv, float weights on a grid that no node names": (
        "y = Conv(d0, w)",
        {"w": RNG.integers(-8, 8, (6, 4, 3, 3)).astype(np.float32) * np.float32(0.0371)},
    ),
}


@pytest.mark.parametrize("form", WEIGHTS)
def test_weights_of_convolutions(tmp_path: Path, form: str) -> None:
    text, constants = WEIGHTS[form]
    s, z = _grid(120)
    pair = PAIR.format(i=0, x="x")
    network = _read(
        tmp_path, f"(float[N, 4, 8, 8] x) => (float[N, 6, A, B] y) {{ {pair} {text} }}", {"s0": s, "z0": z} | constants
    )
    assert len(_quantizers(network)) == 2 and not network.left
    _same(network, 3, 4, 8, 8)


PRODUCTS = {
    "Gemm": ("w = DequantizeLinear <axis = 1> (wq, ws, wz) y = Gemm(d0, w)", False),
    "Gemm, axis from the end": ("w = DequantizeLinear <axis = -1> (wq, ws, wz) y = Gemm(d0, w)", False),
    "Gemm, transposed": ("w = DequantizeLinear <axis = 0> (wq, ws, wz) y = Gemm <transB = 1> (d0, w)", True),
    "MatMul": ("w = DequantizeLinear <axis = 1> (wq, ws, wz) y = MatMul(d0, w)", False),
    "MatMul of a transposed weight": (
        "v = DequantizeLinear <axis = 0> (wq, ws, wz) w = Transpose <perm = [1, 0]> (v) y = MatMul(d0, w)",
        True,
    ),
}


@pytest.mark.parametrize("form", PRODUCTS)
def test_weights_of_products(tmp_path: Path, form: str) -> None:
    text, turned = PRODUCTS[form]
    s, z = _grid(120)
    constants = {
        "s0": s,
        "z0": z,
        "wq": _weight(*((5, 16) if turned else (16, 5))),
        "ws": RNG.uniform(0.01, 0.02, 5).astype(np.float32),
        "wz": np.zeros(5, np.int8),
    }
    pair = PAIR.format(i=0, x="x")
    network = _read(tmp_path, f"(float[N, 16] x) => (float[N, 5] y) {{ {pair} {text} }}", constants)
    assert len(_quantizers(network)) == 2 and not network.left
    _same(network, 3, 16)


KEPT = {
    "codes beyond 8 bits": (
        {"wq": np.array([[-1, 0], [255, 0]] * 4, np.int32), "ws": np.float32(0.01), "wz": np.int32(0)},
        "over more than 8 bits",
    ),
    "scales along the inputs": (
        {"wq": _weight(8, 2), "ws": np.float32([0.1, 0.2] * 4), "wz": np.zeros(8, np.int8)},
        "along its inputs",
    ),
}


@pytest.mark.parametrize("form", KEPT)
def test_weights_without_integer_form_stay_float_by_name(tmp_path: Path, form: str) -> None:
    constants, why = KEPT[form]
    axis = 0 if constants["ws"].ndim else 1
    s, z = _grid(120)
    pair = PAIR.format(i=0, x="x")
    network = _read(
        tmp_path,
        f"(float[N, 8] x) => (float[N, 2] y) {{ {pair} w = DequantizeLinear <axis = {axis}> (wq, ws, wz)"
        " y = MatMul(d0, w) }",
        {"s0": s, "z0": z} | constants,
    )
    assert [why in left.why for left in network.left] == [True]
    _same(network, 3, 8)


def test_grids_without_a_counterpart_stay_operators(tmp_path: Path) -> None:
    """Other scales on both sides, and 16 bits: computed as the file does it."""
    network = _read(
        tmp_path,
        "(float[N, 8] x) => (float[N, 8] y) { c = QuantizeLinear(x, s, z) a = DequantizeLinear(c, t, z)"
        " e = com.microsoft.QuantizeLinear(a, t, w) y = com.microsoft.DequantizeLinear(e, t, w) }",
        {"s": np.float32(0.05), "t": np.float32(0.07), "z": np.uint8(128), "w": np.uint16(30000)},
    )
    assert len(network.left) == 2 and not _quantizers(network)
    _same(network, 3, 8)


@pytest.mark.parametrize("opset", [11, 13, 17, 20, 21, 23, 25])
def test_operator_sets(tmp_path: Path, opset: int) -> None:
    s, z = _grid(120)
    pair = PAIR.format(i=0, x="x")
    tail = PAIR.format(i=1, x="r")
    network = _read(
        tmp_path,
        f"(float[N, 4, 8, 8] x) => (float[N, 6, 1, 1] y) {{ {pair} w = DequantizeLinear(wq, ws, wz) a = Conv(d0, w)"
        f" r = Relu(a) {tail} y = GlobalAveragePool(d1) }}",
        {
            "s0": s,
            "z0": z,
            "s1": np.float32(0.1),
            "z1": np.uint8(0),
            "wq": _weight(6, 4, 3, 3),
            "ws": np.float32(0.0137),
            "wz": np.int8(0),
        },
        opset,
    )
    assert len(_quantizers(network)) == 3
    _same(network, 3, 4, 8, 8)


def test_qlinear_operators(tmp_path: Path) -> None:
    """Concat, LeakyRelu, average pools and products of a QOperator file."""
    s, z = _grid(110)
    network = _read(
        tmp_path,
        "(float[N, 4, 8, 8] x) => (float[N, 8, 1, 1] y) { c = QuantizeLinear(x, s, z)"
        " l = com.microsoft.QLinearLeakyRelu <alpha = 0.25> (c, s, z, t, u)"
        " p = com.microsoft.QLinearMul(c, s, z, l, t, u, s, z)"
        " k = com.microsoft.QLinearConcat <axis = 1> (s, z, l, t, u, p, s, z)"
        " g = com.microsoft.QLinearGlobalAveragePool(k, s, z, t, u)"
        " y = DequantizeLinear(g, t, u) }",
        {"s": s, "z": z, "t": np.float32(0.04), "u": np.uint8(90)},
    )
    assert len(_quantizers(network)) == 5
    _same(network, 3, 4, 8, 8)
