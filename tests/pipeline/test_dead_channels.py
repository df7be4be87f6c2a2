"""Channels that do nothing (γ of 0 … 1e-4, weights 2⁻²³ of others) beside biases of 1, at all widths.

Calibrated or adopted, they are exported and verified, and no bias is beyond int32 in ONNX Runtime's default session.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from lsq_export import QATConfig, adopt, calibrate, export
from lsq_export.bundle.directory import Bundle
from support.adopted import inputs

GAMMAS = (1e-4, 1e-6, 1e-12, 0.0, 1.0, 0.5, 1.0, 0.5)  # of eight channels
SMALL = 2.0**-23


def _net() -> nn.Sequential:
    """Images [N, 3, 16, 16] -> [N, 5]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
        )
    for norm, gammas in ((net[1], GAMMAS), (net[4], GAMMAS[::-1])):
        assert isinstance(norm, nn.BatchNorm2d)
        norm.weight.data = torch.tensor(gammas)
        norm.bias.data = torch.tensor([1.0, 1, 0, 1, 0, 0.1, -1, 1])
    net[6].weight.data[2] *= SMALL
    net[6].bias.data[:] = 1.0
    return net.eval()


def _float_file(path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter is the faster one
        how = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}, "opset_version": 17}
        torch.onnx.export(_net(), (inputs()[:1],), str(path), dynamo=False, **how)
    return path


def _check(bundle: Bundle) -> None:
    """The promises hold; the default session makes what the one without optimizations makes, but for ties."""
    assert bundle.parity is not None and bundle.parity.ok
    for form, most in (("qoperator", 0), ("qdq", 2)):
        default, plain = (_outputs(bundle.models[form], optimized) for optimized in (True, False))
        step = np.abs(plain).max() / 127
        assert np.abs(default - plain).max() <= most * step, form


def _outputs(file: Path, optimized: bool) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: inputs().numpy()})[0])


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("as_file", [True, False])
def test_calibrated(bits: int, as_file: bool, tmp_path: Path) -> None:
    config = QATConfig(weight_bits=bits, activation_bits=bits, weight_granularity="channel", edges="calibrated")
    if as_file:
        file = _float_file(tmp_path / "net.onnx")
        bundle = export(calibrate(file, [inputs()], config), None, tmp_path / "out", calibration=[inputs()])
    else:
        model = calibrate(_net(), [inputs()], config)
        bundle = export(model, inputs()[:1], tmp_path / "out", calibration=[inputs()])
    _check(bundle)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_adopted(bits: int, tmp_path: Path) -> None:
    """A checkpoint as torch.ao keeps it: the grid of a weight is that of the weight times γ/σ."""
    net = _net()
    state = dict(net.state_dict())
    for name, norm in (("0", net[1]), ("3", net[4]), ("6", None), ("10", None)):
        weight = net.get_submodule(name).weight.detach()
        if norm is not None:
            weight = weight * (norm.weight / torch.sqrt(norm.running_var + norm.eps)).reshape(-1, 1, 1, 1)
        steps = (weight.flatten(1).abs().amax(1) / 2 ** (bits - 1)).clamp(min=SMALL)
        state[f"{name}.weight_fake_quant.scale"] = steps.detach()
        state[f"{name}.weight_fake_quant.zero_point"] = torch.zeros(len(steps), dtype=torch.int32)
    torch.save(state, tmp_path / "net.pt")
    said = {"activations": "unsigned", "norms": "scaled"}
    bundle = adopt(tmp_path / "net.pt", tmp_path / "out", model=_net(), calibration=[inputs()], bits=bits, mapping=said)
    _check(bundle)
