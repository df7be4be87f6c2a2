"""qat.quantizer: codes and gradients against the paper's table, state, ONNX markers."""

from __future__ import annotations

import copy
import math
from typing import Any

import onnx_ir as ir
import pytest
import torch
from torch import nn

from calib import QuantizationError
from lsq_export.qat.config import ACTIVATION_GRIDS, ActivationGrid
from lsq_export.qat.prepare_model import prepare, quantizers
from lsq_export.qat.quantizer import Quantizer
from support.lsq_table import oracle, samples
from support.published import published

LIMITS = {
    "unsigned-symmetric": (0, 15),
    "signed-symmetric": (-8, 7),
    "signed-asymmetric": (-8, 7),
    "unsigned-asymmetric": (0, 15),
}


def check(
    quantizer: Quantizer, x: torch.Tensor, scales: list[float], offsets: list[float], samples_in_batch: int
) -> None:
    """Forward and the three gradients of Σ w·x̂; scales and offsets per row of x along axis 0 (or one for all)."""
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x.clone().requires_grad_()
    y = quantizer(x)
    (y * weights).sum().backward()
    rows, row_weights = x.detach().reshape(len(scales), -1).tolist(), weights.reshape(len(scales), -1).tolist()
    features = len(rows[0]) // samples_in_batch
    g = 1 / math.sqrt(features * quantizer.qmax)
    values, grad_x, grad_s, grad_b = [], [], [], []
    for row, row_weight, s, b in zip(rows, row_weights, scales, offsets, strict=True):
        table = [oracle(v, s, b, quantizer.qmin, quantizer.qmax) for v in row]
        values += [t[0] for t in table]
        grad_x += [w * t[1] for w, t in zip(row_weight, table, strict=True)]
        grad_s.append(g * sum(w * t[2] for w, t in zip(row_weight, table, strict=True)))
        grad_b.append(g * sum(w * t[3] for w, t in zip(row_weight, table, strict=True)))
    # float64 sums in another order: 1e-12
    torch.testing.assert_close(y.detach().flatten().tolist(), values, rtol=0, atol=0)
    assert x.grad is not None and quantizer.scale.grad is not None
    torch.testing.assert_close(x.grad.flatten().tolist(), grad_x, rtol=0, atol=0)
    torch.testing.assert_close(quantizer.scale.grad.reshape(-1).tolist(), grad_s, rtol=1e-12, atol=1e-12)
    if quantizer.symmetric:
        assert quantizer.offset.grad is None
    else:
        assert quantizer.offset.grad is not None
        torch.testing.assert_close(quantizer.offset.grad.reshape(-1).tolist(), grad_b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("grid", ACTIVATION_GRIDS)
def test_activation_values_and_gradients(grid: ActivationGrid) -> None:
    quantizer = Quantizer.activation("a.input", 4, grid=grid).double()
    assert (quantizer.qmin, quantizer.qmax) == LIMITS[grid]
    offset = 0.0 if quantizer.symmetric else -0.375
    quantizer.set_grid(0.25, offset)
    x = samples((4, 3, 5, 2), 0.25, offset, quantizer.qmin, quantizer.qmax)
    check(quantizer, x, [0.25], [offset], samples_in_batch=4)


@pytest.mark.parametrize("bits", range(2, 9))
def test_weight_values_and_gradients_per_tensor_and_per_channel(bits: int) -> None:
    tensor = Quantizer.weight("a.weight", bits).double()
    tensor.set_grid(0.125)
    check(tensor, samples((6, 4, 3, 3), 0.125, 0, tensor.qmin, tensor.qmax), [0.125], [0.0], samples_in_batch=1)
    channel = Quantizer.weight("a.weight", bits, channels=3).double()
    scales = [0.25, 0.5, 2.0]
    channel.set_grid(scales)
    x = torch.stack([samples((4, 5), s, 0, channel.qmin, channel.qmax) for s in scales])
    check(channel, x, scales, [0.0] * 3, samples_in_batch=1)


def test_gradient_of_scale_does_not_depend_on_how_a_batch_repeats() -> None:
    """N counts the features of one sample: the mean loss of a batch of copies has the gradient of one sample."""
    x = samples((1, 40), 0.25, -0.25, 0, 15)
    grads = []
    for copies in (1, 8):
        quantizer = Quantizer.activation("a.input", 4).double()
        quantizer.set_grid(0.25, -0.25)
        quantizer(x.repeat(copies, 1)).sum(1).mean().backward()
        grads.append(quantizer.scale.grad)
    torch.testing.assert_close(grads[0], grads[1])


def test_integer_offset_is_a_multiple_of_the_scale_and_trains_straight_through() -> None:
    quantizer = Quantizer.activation("a.input", 4, integer_offset=True).double()
    quantizer.set_grid(0.25, -0.7)
    assert quantizer.effective_offset.item() == -0.75  # round(-2.8) = -3
    x = samples((3, 20), 0.25, -0.75, 0, 15)
    y = quantizer(x)
    y.sum().backward()
    table = [oracle(v, 0.25, -0.75, 0, 15) for v in x.flatten().tolist()]
    assert y.flatten().tolist() == [t[0] for t in table]
    g = 1 / math.sqrt(20 * 15)
    grad_b = g * sum(t[3] for t in table)
    assert quantizer.offset.grad.item() == pytest.approx(grad_b, rel=1e-12)
    # β_eff = s·round(β/s) with straight-through rounding: ∂β_eff/∂s = round(β/s) - β/s
    assert quantizer.scale.grad.item() == pytest.approx(g * sum(t[2] for t in table) + grad_b * (-3 + 2.8), rel=1e-12)


def test_symmetric_grids_ignore_the_integer_offset_option() -> None:
    assert not Quantizer.activation("a.input", 4, grid="signed-symmetric", integer_offset=True).integer_offset


def test_scale_stays_positive_in_training_and_is_not_touched_in_eval() -> None:
    quantizer = Quantizer.activation("a.input", 4)
    quantizer.set_grid(0.5, 0.0)
    with torch.no_grad():
        quantizer.scale.fill_(-3.0)
    quantizer.eval()(torch.ones(2, 3))
    assert quantizer.scale.item() == -3.0
    x = torch.ones(2, 3, requires_grad=True)
    quantizer.train()
    (quantizer(x) + quantizer(x * 2)).sum().backward()  # twice in one graph, with a projection each
    assert quantizer.scale.item() == pytest.approx(0.5e-3)
    assert quantizer.scale.grad is not None


def test_uninitialized_quantizer_is_an_error_that_names_it() -> None:
    with pytest.raises(QuantizationError, match=r"^conv1\.input: .*calib\.initialize"):
        Quantizer.activation("conv1.input", 4)(torch.ones(1, 2))


@pytest.mark.parametrize(
    ("scale", "offset", "message"),
    [
        (0.0, 0.0, "scale is 0.0"),
        (-1.0, 0.0, "scale is -1.0"),
        (math.nan, 0.0, "scale is nan"),
        (math.inf, 0.0, "scale is inf"),
        (1.0, math.nan, "offset is nan"),
        ([1.0, 2.0], 0.0, r"scale has the shape \[2\], expected \[\]"),
    ],
)
def test_set_grid_refuses(scale: Any, offset: Any, message: str) -> None:
    quantizer = Quantizer.activation("a.input", 4)
    with pytest.raises(QuantizationError, match=f"^a.input: {message}"):
        quantizer.set_grid(scale, offset)
    assert not quantizer.initialized


def test_set_grid_refuses_an_offset_on_a_symmetric_grid() -> None:
    with pytest.raises(QuantizationError, match="symmetric"):
        Quantizer.weight("a.weight", 4, channels=2).set_grid([1.0, 1.0], [0.0, 0.5])


@pytest.mark.parametrize("bits", [1, 9])
def test_bits_out_of_range(bits: int) -> None:
    with pytest.raises(QuantizationError, match="use 2 to 8"):
        Quantizer.weight("a.weight", bits)


def test_unknown_activation_grid() -> None:
    with pytest.raises(QuantizationError, match="unsigned-asymmetric"):
        Quantizer.activation("a.input", 4, grid="asymmetric")


@pytest.mark.parametrize("channels", [None, 3])
def test_state_survives_loading_and_copying(channels: int | None) -> None:
    quantizer = Quantizer.weight("a.weight", 4, channels=channels)
    quantizer.set_grid(0.3)
    loaded = Quantizer.weight("a.weight", 4, channels=channels)
    loaded.load_state_dict(quantizer.state_dict())
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    for other in (loaded, copy.deepcopy(quantizer)):
        assert other.scale.shape == quantizer.scale.shape
        assert torch.equal(other(x), quantizer(x))
        assert torch.equal(other.floor, quantizer.floor)
    blank = Quantizer.weight("a.weight", 4, channels=channels)
    loaded.load_state_dict(blank.state_dict())
    with pytest.raises(QuantizationError, match="no grid yet"):
        loaded(x)


def test_half_types_compute_in_float32() -> None:
    quantizer = Quantizer.activation("a.input", 8)
    quantizer.set_grid(0.01, -0.5)
    x = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    y = quantizer(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == torch.bfloat16
    assert torch.equal(y, quantizer(x.float()).bfloat16())
    assert quantizer.scale.grad.dtype == torch.float32


class Twice(nn.Module):
    """One convolution that is used twice, then a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.fc = nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(torch.relu(self.conv(x))).mean((2, 3)))


def test_onnx_export_has_one_marker_for_each_use() -> None:
    torch.manual_seed(0)
    model = prepare(
        Twice(), published(weight_granularity="channel", offset="integer", first_last_bits=None, activation_bits=3)
    ).eval()
    for index, quantizer in enumerate(quantizers(model).values()):
        quantizer.set_grid(0.25 + index, 0.0 if quantizer.symmetric else -0.7)
    program = torch.onnx.export(
        model, (torch.randn(2, 3, 8, 8),), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False
    )
    markers = [node for node in program.model.graph if node.domain == "lsq_export"]
    uses = [node.attributes["quantizer"].as_string() for node in markers]
    # the exporter folds the two equal markers of the weight that is used twice into one
    assert sorted(uses) == ["conv.input", "conv.input", "conv.weight", "fc.input", "fc.weight"]
    known = quantizers(model)
    for node in markers:
        quantizer = known[node.attributes["quantizer"].as_string()]
        assert node.op_type == "FakeQuantize"
        assert [node.attributes[key].as_int() for key in ("bits", "qmin", "qmax")] == [
            quantizer.bits,
            quantizer.qmin,
            quantizer.qmax,
        ]
        assert node.attributes["kind"].as_string() == quantizer.kind
        assert node.attributes["axis"].as_int() == (0 if quantizer.kind == "weight" else -1)
        x, scale, offset = node.inputs
        assert torch.equal(torch.tensor(scale.const_value.numpy()), quantizer.scale.detach())
        assert torch.equal(torch.tensor(offset.const_value.numpy()), quantizer.effective_offset.detach())
        if quantizer.kind == "activation":
            assert isinstance(node.outputs[0].shape[0], ir.SymbolicDim)
        assert node.outputs[0].shape == x.shape
