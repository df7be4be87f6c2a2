"""calibrate: grids from data alone, for PyTorch networks and float ONNX files, the same for any batches."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from torch import nn

from calib.errors import QuantizationError
from lsq_export import QATConfig, calibrate, export
from lsq_export.adoption.network import OnnxNetwork
from lsq_export.graph.read import array_of, attribute, is_marker
from lsq_export.ptq.float_file import read_float
from support.adopted import SAMPLES, inputs

FILE = SAMPLES / "aimet-torch" / "encodings.onnx"


def _net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 10),
        ).eval()


def _grids(network: OnnxNetwork) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    markers = [node for node in network.captured.model.graph if is_marker(node)]
    return {attribute(m, "quantizer"): tuple(map(array_of, m.inputs[1:3])) for m in markers}  # type: ignore[misc]


@pytest.mark.parametrize("size", [1, 3, 8])
def test_any_batch_size_and_order_gives_the_same_files(size: int, tmp_path: Path) -> None:
    turned = inputs().flip(0)
    for name, batches in (("a", [inputs()]), ("b", list(turned.split(size)))):
        network = calibrate(FILE, batches, QATConfig(activation_bits=4))
        export(network, None, tmp_path / name, calibration=batches, formats=["qdq", "qoperator"])
    for file in ("qdq/model.onnx", "qoperator/model.onnx"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


class _Two(nn.Module):
    """Two inputs, of which one is larger: images [N, 3, 16, 16] and [N, 8, 16, 16] -> [N, 4, 16, 16]."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.b(torch.relu(self.a(x)) + y)
        return made


@pytest.mark.parametrize("size", [1, 3])
def test_any_batches_of_two_inputs_give_the_same_files(size: int, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter is the faster one
        torch.manual_seed(2)
        x, y = inputs(), 3 * torch.randn(8, 8, 16, 16)
        names = {"input_names": ["x", "y"], "dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
        torch.onnx.export(_Two().eval(), (x, y), str(tmp_path / "two.onnx"), dynamo=False, opset_version=17, **names)
    turned = [{"x": a, "y": b} for a, b in zip(x.flip(0).split(size), y.flip(0).split(size), strict=True)]
    for name, batches in (("a", [{"x": x, "y": y}]), ("b", turned)):
        network = calibrate(tmp_path / "two.onnx", batches)
        export(network, None, tmp_path / name, calibration=batches, formats=["qdq", "qoperator"])
    for file in ("qdq/model.onnx", "qoperator/model.onnx"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_pytorch_grids_do_not_depend_on_batches() -> None:
    found = [calibrate(_net(), batches) for batches in ([inputs()], inputs().flip(0).split(3))]
    first, second = (model.state_dict() for model in found)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_file_and_its_pytorch_network_get_the_same_weights_and_grids(tmp_path: Path) -> None:
    """Two roads to one result: torch's exporter writes the float network, and the file is calibrated."""
    net, x, path = _net(), inputs(), tmp_path / "net.onnx"
    torch.onnx.export(net, (x,), path, dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False)
    config = QATConfig(weight_bits=4, activation_bits=4, weight_granularity="channel", edges="calibrated")
    model = calibrate(net, [x], config)
    bundles = [
        export(given, example, tmp_path / name, calibration=[x], formats=["qdq"])
        for name, given, example in (("torch", model, x), ("onnx", calibrate(path, [x], config), None))
    ]
    assert all(bundle.parity is not None and bundle.parity.ok for bundle in bundles)
    by_torch, by_file = (calibrated_outputs(bundle.models["qdq"], x) for bundle in bundles)
    # the exporter folds the batch norm into the weights, whose codes round otherwise: nearly the same network
    noise = np.square(by_torch - by_file).sum() / np.square(by_torch).sum()
    assert noise < 10**-1.5


def calibrated_outputs(path: Path, x: torch.Tensor) -> np.ndarray:
    """What a file makes of x in ONNX Runtime."""
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def test_scales_are_those_of_least_error() -> None:
    """The search is held against trying every scale: no other one in steps of 1 % is better by more than 1 %."""
    weight = next(array_of(node.inputs[1]) for node in read_float(FILE).graph if node.op_type == "Gemm")
    assert weight is not None
    scale, _ = _grids(calibrate(FILE, [inputs()]))["fc.weight"]
    for row, s in zip(weight, np.broadcast_to(scale, len(weight)), strict=True):

        def error(step: float, values: np.ndarray = row) -> float:
            return float(np.square(np.clip(np.rint(values / step), -128, 127) * step - values).sum())

        tried = min(error(s * factor) for factor in np.arange(0.5, 1.5, 0.01))
        assert error(float(s)) <= tried * 1.01 + 1e-12


def test_sizes_that_the_file_leaves_open_are_those_of_the_data(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 13]> g (float[N, 3, H, W] x) => (float[N, 4, A, B] y) { y = Conv(x, w) }'
    )
    w = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    onnx.save(model, tmp_path / "net.onnx")
    network = calibrate(tmp_path / "net.onnx", [inputs()])
    assert network.captured.input_shape == (3, 16, 16)
    bundle = export(network, None, tmp_path / "out", calibration=[inputs()])
    assert bundle.parity is not None and bundle.parity.ok


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([], "no calibration batches"),
        ([torch.rand(8, 3, 12, 12)], "the input t.1 has the shape"),
        ([torch.full((8, 3, 16, 16), float("nan"))], "NaN or infinity"),
        ([torch.zeros(8, 3, 16, 16, dtype=torch.uint8)], "give floats"),
    ],
)
def test_data_that_do_not_fit(batches: list[torch.Tensor], said: str) -> None:
    with pytest.raises(QuantizationError, match=said):
        calibrate(FILE, batches)


def test_a_network_without_layers_is_refused(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 13]> g (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }'
    )
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(QuantizationError, match="nothing to quantize"):
        calibrate(tmp_path / "net.onnx", [torch.rand(4, 3)])


TOKENS = """
<ir_version: 8, opset_import: ["" : 17]>
g (int32[n, 6] tokens) => (float[n, 6, 3] y) <float[9, 4] table, float[4, 3] w> { e = Gather(table, tokens)
  y = MatMul(e, w) }
"""


def test_tokens_come_in_the_width_that_the_file_has(tmp_path: Path) -> None:
    """Data sets have int64, and a file that reads int32 refuses them."""
    rng = np.random.default_rng(0)
    file = onnx.parser.parse_model(TOKENS)
    for value, shape in (("table", (9, 4)), ("w", (4, 3))):
        file.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), value))
    onnx.save(file, tmp_path / "tokens.onnx")
    batches = [torch.from_numpy(rng.integers(0, 9, (4, 6))) for _ in range(2)]
    assert batches[0].dtype == torch.int64
    bundle = export(calibrate(tmp_path / "tokens.onnx", batches), None, tmp_path / "out", calibration=batches)
    assert bundle.parity is not None and bundle.parity.ok, bundle.parity
    assert bundle.manifest["input"]["type"] == "int32"
