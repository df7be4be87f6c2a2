"""What is reconstructed: weights as markers read them, and back into the layers."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import torch
from torch import nn

from lsq_export import QATConfig, calibrate
from lsq_export.graph.read import attribute
from lsq_export.ptq.float_file import read_float, with_quantizers
from lsq_export.reconstruction.block_values import BlockValues
from lsq_export.reconstruction.blocks import blocks_of
from lsq_export.reconstruction.subjects import Subject, of_module, of_network
from support.adopted import SAMPLES
from support.adopted import inputs as file_inputs
from support.networks import Conv, inputs

CONFIG = QATConfig(weight_bits=3, activation_bits=3, weight_granularity="channel", edges="calibrated")
FILE: Path = SAMPLES / "aimet-torch" / "encodings.onnx"


def _seen(subject: Subject, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each weight's marker reads."""
    found: dict[str, torch.Tensor] = {}

    def on_marker(marker: ir.Node, given: torch.Tensor) -> torch.Tensor:
        if attribute(marker, "kind") == "weight":
            found[subject.quantizer_of(marker).name] = given
        return given

    state, values = {subject.graph.inputs[0]: x}, BlockValues()
    for block in blocks_of(subject.graph):
        state = values.run(block, state, on_marker)
    return found


def test_weights_of_modules_go_back_in_the_layers_own_order() -> None:
    """A transposed convolution has its output channels second, in groups as well."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        up = nn.ConvTranspose2d(8, 6, 3, stride=2, groups=2)
        net = nn.Sequential(Conv(3, 8, 3), nn.ReLU(), up, nn.ReLU(), nn.Flatten(), nn.Linear(6 * 225, 2)).eval()
    x = inputs(2, 1)
    model = calibrate(net, [x], CONFIG)
    subject = of_module(model, x)
    seen = _seen(subject, x)
    assert set(seen) == set(subject.weights) == {"0.weight", "2.weight", "5.weight"} == subject.once() & set(seen)
    assert all(torch.equal(seen[name], weight) for name, weight in subject.weights.items())
    assert subject.weights["2.weight"].shape == (6, 4, 3, 3)
    for name, weight in subject.weights.items():
        subject.write(name, 2 * weight)
        stored = model.get_submodule(name.removesuffix(".weight")).parametrizations["weight"].original  # type: ignore[index,union-attr]
        assert torch.equal(stored.detach(), 2 * net.get_submodule(name.removesuffix(".weight")).weight.detach())  # type: ignore[operator,union-attr]


def test_weights_of_files_go_back_into_the_graph() -> None:
    subject = of_network(with_quantizers(read_float(FILE), CONFIG).network)
    before = _seen(subject, file_inputs())
    assert before.keys() == subject.weights.keys() and len(before) > 2
    for name, weight in subject.weights.items():
        assert torch.equal(before[name], weight)
        subject.write(name, weight + 1)
    assert all(torch.equal(value, subject.weights[name] + 1) for name, value in _seen(subject, file_inputs()).items())


def test_grids_come_back() -> None:
    x = inputs(2, 1)
    model = calibrate(nn.Sequential(Conv(3, 8, 3), nn.ReLU(), Conv(8, 2, 3)).eval(), [x], CONFIG)
    subject, before = of_module(model, x), {name: value.clone() for name, value in model.state_dict().items()}
    state = subject.state()
    with torch.no_grad():
        for quantizer in subject.quantizers.values():
            quantizer.scale.mul_(2)
            quantizer.offset.add_(1)
    subject.restore(state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
