"""The fold "integer" (calib/folding/integer_grid.py, rewrite/folding/integer_offsets.py) and narrow types
(rewrite/lowering/narrow.py).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

import calib
import lsq_export
from calib.folding.integer_grid import integer_grid, naive_grid
from calib.grid import Grid
from calib.statistics.observers import Observer
from lsq_export.graph.capture import capture
from lsq_export.graph.evaluate import evaluate
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.targets import get
from lsq_export.verification.checking import Subject, check
from support import networks
from support.published import published

assert networks  # the zoo caches the exporter's registry, which makes captures quick


def observed(seed: int = 0) -> Observer:
    seen = Observer()
    seen.update(torch.nn.functional.silu(torch.randn(20000, generator=torch.Generator().manual_seed(seed)) * 1.5))
    return seen


def cost(grid: Grid, scale: float, zero_point: int, remainder: float, seen: Observer, outside: float) -> float:
    """J of calib/folding/integer_grid.py, written again."""
    points = seen.points()
    codes = np.clip(np.rint((points.values - grid.offset) / grid.scale), 0, grid.qmax)
    error = scale * (codes - zero_point) + remainder - (grid.scale * codes + grid.offset)
    return float((1 - outside) * np.average(error**2, weights=points.counts) + outside * remainder**2)


@pytest.mark.parametrize("p", [3, 7, 15])
@pytest.mark.parametrize("steps", [-2.4, -0.5, -0.2, 0.0, 0.3])
@pytest.mark.parametrize("outside", [0.05, 0.3])
def test_least_squares_is_the_best_of_a_brute_force_search(p: int, steps: float, outside: float) -> None:
    grid, seen = Grid(0.8, 0.8 * steps, 0, p), observed()
    found = integer_grid(grid, seen.points(), outside)
    assert cost(grid, found.scale, found.zero_point, found.remainder, seen, outside) == pytest.approx(
        found.error, rel=1e-4, abs=1e-9
    )
    for zero_point in range(p + 1):
        for scale in grid.scale * np.linspace(0.6, 1.5, 11):
            for remainder in grid.scale * np.linspace(-1, 1, 15):
                assert (
                    found.error
                    <= cost(grid, float(scale), zero_point, float(remainder), seen, outside) * (1 + 1e-6) + 1e-9
                )


def test_without_padding_nothing_is_lost() -> None:
    found = integer_grid(Grid(0.5, -0.27, 0, 3), None, 0.0)
    assert found.error == 0 and found.scale == 0.5 and found.offset + found.remainder == pytest.approx(-0.27)


def test_an_integer_offset_is_exact_and_a_dropped_one_is_not() -> None:
    grid, seen = Grid(0.5, -1.0, 0, 7), observed()
    assert integer_grid(grid, seen.points(), 0.3).error < 1e-12
    real = Grid(0.5, -0.8, 0, 7)
    naive = naive_grid(real)
    assert cost(real, naive.scale, naive.zero_point, 0.0, seen, 0.3) > 2 * integer_grid(real, seen.points(), 0.3).error


class Net(torch.nn.Module):
    """Padded, unpadded, a residual sum, a batch norm with γ of both signs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.b, self.head = torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 8, 1), torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.stem(x))
        y = torch.relu(self.norm(self.a(y)) + y)
        return self.head(self.b(y).mean((2, 3)))


@cache
def folded(
    bits: int, *, first_last_bits: int | None = 8, offset: str = "real"
) -> tuple[torch.nn.Module, Folded, torch.Tensor]:
    torch.manual_seed(bits)
    net = Net().eval()
    with torch.no_grad():
        net.norm.weight.copy_(torch.linspace(-1.5, 1.5, 8))
        net.a.weight[0] *= 6 / net.a.weight[0].abs().max() * net.a.weight.std()  # codes at both ends of the range
        net.a.weight[0, 0, 0, 0] = -99.0
    config = published(weight_bits=bits, activation_bits=bits, first_last_bits=first_last_bits, offset=offset)  # type: ignore[arg-type]
    model = lsq_export.prepare(net, config)
    x = torch.randn(32, 3, 10, 10)
    calib.initialize(model, [x])
    return model, fold(capture(model, x), [x], "integer"), x


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("first_last_bits", [8, None])
def test_the_promises_hold_in_8_bit_and_in_narrow_types(bits: int, first_last_bits: int | None) -> None:
    model, made, x = folded(bits, first_last_bits=first_last_bits)
    for target, formats in (("ort-cpu", ("qdq", "qoperator")), ("native-low-bit", ("qdq",))):
        files = emit_all(made, formats, get(target))
        parity = check(Subject.of(made, files, target), [x], model=model)
        # promises 1 and 2; an untrained network at 2 bits may lose all else
        assert all(found.ok for found in parity.formats.values()), parity.failures
    proto = files["qdq"]
    types = {onnx.TensorProto.DataType.Name(t.data_type) for t in proto.graph.initializer}
    assert {2: {"INT2", "UINT2"}, 3: {"INT4", "UINT4"}, 4: {"INT4", "UINT4"}}[bits] <= types
    outputs = ReferenceEvaluator(proto).run(None, {"input": x.numpy()})[0]
    wanted = evaluate(made.model.graph, x)[0].numpy()
    noise = np.square(outputs - wanted, dtype=np.float64).sum()
    assert noise == 0 or 10 * np.log10(np.square(wanted, dtype=np.float64).sum() / noise) >= 100


def test_a_flipped_lowest_code_gets_a_zero_point_of_minus_one() -> None:
    """E8: γ < 0 turns -2^(b-1) into +2^(b-1), which INT4 does not hold."""
    _, made, _ = folded(4)
    proto = emit_all(made, ("qdq",), get("native-low-bit"))["qdq"]
    zeros = {
        t.name: onnx.numpy_helper.to_array(t).astype(int)
        for t in proto.graph.initializer
        if t.name.startswith("a.weight") and "zero_point" in t.name
    }
    assert any((z == -1).any() and ((z == 0) | (z == -1)).all() for z in zeros.values())


def test_integer_offsets_leave_no_border_error() -> None:
    _, made, _ = folded(4, offset="integer")
    assert all(
        abs(t.error_steps) < 1e-4 and t.border < 1e-4 for t in made.tensors if t.kind == "activation" and t.levels <= 16
    )


def test_a_doubled_scale_in_the_narrow_file_fails() -> None:
    model, made, x = folded(4)
    file = emit_all(made, ("qdq",), get("native-low-bit"))["qdq"]
    broken = onnx.ModelProto()
    broken.CopyFrom(file)
    tensor = next(t for t in broken.graph.initializer if t.name.startswith("b.input") and t.name.endswith("scale"))
    tensor.CopyFrom(onnx.numpy_helper.from_array(2 * onnx.numpy_helper.to_array(tensor), tensor.name))
    parity = check(Subject.of(made, {"qdq": broken}, "native-low-bit"), [x], model=model)
    assert not parity.ok and not replace(parity.formats["qdq"], altered=()).ok


def test_a_packed_file_is_not_much_larger_than_its_numbers() -> None:
    """At most 1.1 times what weights, biases and scales take: names, shapes and nodes are the rest."""
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = [torch.nn.Conv2d(3, 128, 3, padding=1), torch.nn.ReLU()]
    for _ in range(3):
        layers += [torch.nn.Conv2d(128, 128, 3, padding=1), torch.nn.BatchNorm2d(128), torch.nn.ReLU()]
    net = torch.nn.Sequential(
        *layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(128, 10)
    ).eval()
    for bits in (2, 4):
        model = lsq_export.prepare(net, published(weight_bits=bits, activation_bits=bits))
        x = torch.randn(4, 3, 8, 8)
        calib.initialize(model, [x], "minmax")
        proto = emit_all(fold(capture(model, x), [x], "integer"), ("qdq",), get("native-low-bit"))["qdq"]
        weights = sum(
            layer.weight.numel() * (8 if layer in (net[0], net[-1]) else bits) / 8
            for layer in net
            if hasattr(layer, "weight") and layer.weight.ndim > 1
        )
        channels = 4 * 128 + 10
        assert proto.ByteSize() <= 1.1 * (weights + 4 * channels + 4 * channels), bits
