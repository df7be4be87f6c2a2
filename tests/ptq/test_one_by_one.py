"""sensitivity: each layer quantized alone, of PyTorch networks and of ONNX files."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from calib.errors import QuantizationError
from lsq_export import QATConfig, calibrate, sensitivity
from lsq_export.ptq.one_by_one import EDGES
from support.adopted import SAMPLES, inputs, read

FILE = SAMPLES / "aimet-torch" / "encodings.onnx"
CONFIG = QATConfig(weight_bits=4, activation_bits=4, first_last_bits=None, offset="real", edges="calibrated")


def _net() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.Flatten(), nn.Linear(5 * 196, 7))
        return nn.Sequential(*layers).eval()


def _on_grid(x: torch.Tensor, scale: torch.Tensor, offset: float, low: int, high: int) -> torch.Tensor:
    """E1, written down once more."""
    return scale * torch.clamp(torch.round((x - offset) / scale), low, high) + offset


def test_a_layer_alone_is_the_float_network_with_that_layer_on_its_grids() -> None:
    """The oracle is the float network in plain PyTorch, with one layer's weight and input rounded by hand."""
    net, x = _net(), inputs()
    model = calibrate(net, [x], CONFIG)
    found = {row.layer: row for row in sensitivity(model, x.split(3)).rows}
    assert set(found) == {"0", "2", "4"}
    with torch.no_grad():
        expected = net(x)
        for name, row in found.items():
            alone = copy.deepcopy(net)
            layer, quantized = alone.get_submodule(name), model.get_submodule(name)
            of_weight = quantized.parametrizations["weight"][0]  # type: ignore[index]
            scale = of_weight.scale.reshape(-1, *[1] * (layer.weight.dim() - 1))  # type: ignore[operator,union-attr]
            layer.weight.copy_(_on_grid(layer.weight, scale, 0.0, -8, 7))  # type: ignore[operator,arg-type,union-attr]
            of_input = quantized.input_quantizer
            grid = (of_input.scale, float(of_input.offset), 0, 15)  # type: ignore[arg-type,union-attr]
            layer.register_forward_pre_hook(lambda _, args, grid=grid: (_on_grid(args[0], *grid),))
            error = (alone(x) - expected).square().sum()
            assert row.sqnr_db == pytest.approx(10 * math.log10(expected.square().sum() / error), abs=1e-3)
            assert row.same_class == (alone(x).argmax(1) == expected.argmax(1)).double().mean()
            assert (row.weight_bits, row.input_bits) == (4, 4)


def test_the_worst_layer_comes_first_and_more_bits_mend_it() -> None:
    x = inputs()
    coarse = CONFIG.from_dict(CONFIG.to_dict() | {"weight_bits": 8, "activation_bits": 8, "layers": {"2": 2}})
    found = sensitivity(calibrate(_net(), [x], coarse), [x])
    assert found.rows[0].layer == "2" and found.rows[0].sqnr_db < found.rows[1].sqnr_db - 10
    assert found.together.sqnr_db < found.rows[0].sqnr_db + 1 and found.images == len(x)
    fine = CONFIG.from_dict(coarse.to_dict() | {"layers": {"2": 8}})
    mended = {row.layer: row for row in sensitivity(calibrate(_net(), [x], fine), [x]).rows}
    assert mended["2"].sqnr_db > found.rows[0].sqnr_db + 20


def test_a_file_is_measured_as_the_network_that_it_is() -> None:
    """All quantized together is what the graph with its markers computes, and batches make no difference."""
    x = inputs()
    network = calibrate(FILE, [x], QATConfig(weight_bits=3, activation_bits=8))
    one, other = sensitivity(network, [x]), sensitivity(network, x.split(1))
    names = {row.layer for row in one.rows}
    assert {"conv1", "dw", "fc"} <= names and EDGES not in names
    assert [row.layer for row in one.rows] == [row.layer for row in other.rows]
    from lsq_export.graph.evaluate import evaluate

    made = evaluate(network.captured.model.graph, x, dtype=torch.float32)[0].numpy()
    plain = network.outputs(x)[0]
    noise = np.square(made - plain).sum() / np.square(plain).sum()
    assert one.together.sqnr_db == pytest.approx(-10 * math.log10(noise), abs=1e-2)
    assert json.loads(json.dumps(one.to_dict(), allow_nan=False))["layers"][0]["layer"] == one.rows[0].layer
    assert "conv1" in repr(one) and "same class" in repr(one)


def test_trained_edges_are_one_row() -> None:
    config = QATConfig.from_dict(CONFIG.to_dict() | {"edges": "trained"})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1)).eval()
    rows = sensitivity(calibrate(net, [inputs()], config), [inputs()]).rows
    assert {row.layer for row in rows} == {"0", "2", EDGES} and rows[-1].layer == EDGES, rows


def test_the_network_is_as_before_and_what_is_none_is_refused() -> None:
    model, x = calibrate(_net(), [inputs()], CONFIG), inputs()
    before = model(x)
    sensitivity(model, [x])
    assert torch.equal(model(x), before)
    with pytest.raises(QuantizationError, match="was quantized elsewhere"):
        sensitivity(read("onnxruntime/qdq_u8s8_perchannel"), [x])
    with pytest.raises(QuantizationError, match="no quantizers"):
        sensitivity(_net(), [x])
    with pytest.raises(QuantizationError, match="no batches"):
        sensitivity(model, [])
