"""The models: whole exported networks, and single operators with every pair of codes that they can meet."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F_
from onnx import helper

import calib
import lsq_export
from calib.folding.containers import DEPTHWISE_LIMIT, WEIGHT_LIMIT, strided_grid
from calib.grid import Grid
from calib.rounding.fixed_point import Addend
from calib.rounding.ties import clear_scale, clear_sum_scale
from lsq_export import integer, models
from lsq_export.rewrite.folding.tie_values import PRODUCT_MARGIN, logistic_margin
from support.published import published
from support.single_node import MICROSOFT, build, node

from .machines import MACHINES

F, U8, S8 = np.float32, np.uint8, np.int8
EVERY = np.arange(256)
Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """reference: what every machine must give, by tensor. differs_on: the machines on which it must not (sabotage)."""

    kind: str
    name: str
    model: onnx.ModelProto
    inputs: Tensors
    reference: Tensors
    differs_on: frozenset[str] = frozenset()


def case(
    kind: str,
    name: object,
    model: onnx.ModelProto,
    inputs: Tensors,
    *differs_on: str,
    meant: onnx.ModelProto | None = None,
) -> Case:
    """meant: the model that the reference evaluates, where it is not the one that runs."""
    tensors = integer.run(model if meant is None else meant, inputs)
    reference = {key: value for key, value in tensors.items() if key not in inputs}
    return Case(kind, re.sub(r"\W+", "-", f"{kind} {name}").strip("-"), model, inputs, reference, frozenset(differs_on))


def cases() -> list[Case]:
    """All of them."""
    return [
        *networks(),
        *operators(),
        *sums(),
        *multiplications(),
        *tables(),
        *spreads(),
        *pools(),
        *clips(),
        *concatenations(),
        *convolutions(),
        *products(),
        *ends(),
        *sabotage(),
    ]


def networks() -> Iterator[Case]:
    """The network tiny, as after training: random batch norms, and steps and offsets from data.

    The first and the last layer have 8 bits (UINT8 weights).
    """
    for bits, granularity in ((2, "tensor"), (2, "channel"), (4, "tensor"), (4, "channel"), (8, "tensor")):
        torch.manual_seed(bits)
        network = models.build("tiny", num_classes=10)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                module.weight.data.normal_(1, 0.5)
                module.bias.data.normal_(0, 0.3)
        x = torch.randn(24, 3, 32, 32)
        config = published(weight_bits=bits, activation_bits=bits, weight_granularity=granularity)
        model = lsq_export.prepare(network.eval(), config)
        calib.initialize(model, [x], method="mse")
        with tempfile.TemporaryDirectory() as directory:
            bundle = lsq_export.export(model, x[:1], Path(directory) / "out", formats=("qoperator",), calibration=[x])
            proto = onnx.load(bundle.models["qoperator"])
        images = torch.cat([x[:3], 4 * torch.randn(3, 3, 32, 32)]).numpy()
        yield case(f"tiny W{bits}A{bits}", granularity, proto, {proto.graph.input[0].name: images})


def operators() -> Iterator[Case]:
    """One network with every operator that has an integer form, as exported."""
    functions: list[Callable[[torch.Tensor], torch.Tensor]] = [
        *(F_.hardswish, F_.silu, torch.tanh, torch.abs),
        lambda x: F_.leaky_relu(x, 0.1),
        lambda x: x @ x.transpose(2, 3),
        lambda x: 0.4 - x / 3,
        lambda x: F_.pad(x, (1, 0, 0, 1), value=0.2),
        lambda x: F_.interpolate(x, scale_factor=2)[:, :, 1:9, ::2],
        lambda x: x * torch.sigmoid(x.mean((2, 3), True)),
    ]
    for index, function in enumerate(functions):
        torch.manual_seed(index)
        channels = 6
        modules = {"a": torch.nn.Conv2d(3, channels, 3), "b": torch.nn.Conv2d(channels, 5, 1)}
        model = lsq_export.prepare(
            Between(function, modules).eval(),
            published(weight_bits=4, activation_bits=4, first_last_bits=None),
        )
        x = torch.randn(24, 3, 12, 12)
        calib.initialize(model, [x], method="mse")
        with tempfile.TemporaryDirectory() as directory:
            bundle = lsq_export.export(
                model, x[:1], Path(directory) / "out", formats=("qoperator",), calibration=[x], strict_integer=True
            )
            proto = onnx.load(bundle.models["qoperator"])
        yield case("operators", index, proto, {proto.graph.input[0].name: torch.cat([x[:6], 3 * x[6:12]]).numpy()})


class Between(torch.nn.Module):
    """A convolution, a function of its output, another convolution."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], modules: dict[str, torch.nn.Module]) -> None:
        super().__init__()
        self.function, self.layers = function, torch.nn.ModuleDict(modules)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers["b"](self.function(self.layers["a"](x)))


def multiplications() -> Iterator[Case]:
    """QLinearMul: all 65,536 pairs of codes, at the scales that `ties` chooses."""
    rng = np.random.default_rng(11)
    a, b = (v.astype(U8) for v in np.meshgrid(EVERY, EVERY, indexing="ij"))
    for i in range(12):
        scales = (10 ** rng.uniform(-2.5, -0.5, 2)).astype(F)
        zeros = [int(z) for z in rng.integers(0, 256, 2) * (i % 3 > 0)]
        values = np.multiply.outer(*((EVERY - z) * float(s) for s, z in zip(scales, zeros, strict=True)))
        low, high = min(values.min(), 0), max(values.max(), 0)
        step = rng.choice([1, 0.6]) * (high - low) / 255
        y_zero = int(np.clip(np.rint(-low / step), 0, 255))
        y_scale = F(clear_scale(values, float(F(step)), -y_zero, 255 - y_zero, margin=PRODUCT_MARGIN))
        constants = [scales[0], U8(zeros[0]), scales[1], U8(zeros[1]), y_scale, U8(y_zero)]
        model = node("QLinearMul", {"a": a, "b": b}, constants, domain=MICROSOFT, order="iccicccc")
        yield case("QLinearMul", i, model, {"a": a, "b": b})


def tables() -> Iterator[Case]:
    """QLinearSigmoid (with the grid of Tanh) and QLinearLeakyRelu: all 256 codes, at the scales that `ties` chooses."""
    rng = np.random.default_rng(12)
    x = EVERY.astype(U8).reshape(1, 256)
    for i in range(24):
        s, z = F(10 ** rng.uniform(-2.5, -0.5)), int(rng.integers(0, 256))
        values = (EVERY - z) * float(s)
        logistic = 1 / (1 + np.exp(-values))
        scale = float(F(1 / 254 if i % 2 else logistic.max() / 255))
        y_scale = F(clear_scale(logistic, scale, 0, 255, margin=logistic_margin(scale)))
        model = node("QLinearSigmoid", {"x": x}, [s, U8(z), y_scale, U8(0)], domain=MICROSOFT)
        yield case("QLinearSigmoid", i, model, {"x": x})
        alpha = float(F([0.01, 0.1, 0.3, -1.0][i % 4]))
        leaky = np.where(values >= 0, values, alpha * values)
        step = (max(leaky.max(), 0) - min(leaky.min(), 0)) / 255
        y_zero = int(np.rint(-min(leaky.min(), 0) / step))
        y_scale = F(clear_scale(leaky, float(F(step)), -y_zero, 255 - y_zero, margin=PRODUCT_MARGIN))
        model = node("QLinearLeakyRelu", {"x": x}, [s, U8(z), y_scale, U8(y_zero)], domain=MICROSOFT, alpha=alpha)
        yield case("QLinearLeakyRelu", i, model, {"x": x})


def sums() -> Iterator[Case]:
    """QLinearAdd: all 65,536 pairs of codes, on grids as the export chooses them.

    The operands of the last three broadcast.
    """
    rng = np.random.default_rng(1)
    a, b = (v.astype(U8) for v in np.meshgrid(EVERY, EVERY, indexing="ij"))
    for i in range(16):
        scales = (10 ** rng.uniform(-2.5, -0.5) * np.array([1, 10 ** rng.uniform(-0.5, 0.5)])).astype(F)
        zeros = [int(z) for z in rng.integers(0, 40 if i % 2 else 256, 2) * (i % 4 > 0)]
        addends = [Addend(EVERY - z, float(s)) for s, z in zip(scales, zeros, strict=True)]
        low, high = (rng.choice([1, 0.9, 0.6]) * sum(f(v.values) for v in addends) for f in (np.min, np.max))
        low = 0.0 if i % 2 else low  # as after a ReLU
        step = float(F((high - low) / 255))
        y_zero = int(np.clip(np.rint(-low / step), 0, 255))
        y_scale = F(clear_sum_scale(*addends, step, -y_zero, 255 - y_zero))
        inputs = {"a": a, "b": b}
        if i >= 13:
            inputs = {"a": EVERY.astype(U8).reshape(1, 256, 1), "b": np.array(rng.integers(0, 256, (1, 1, 1)), U8)}
        constants = [scales[0], U8(zeros[0]), scales[1], U8(zeros[1]), y_scale, U8(y_zero)]
        yield case("QLinearAdd", i, node("QLinearAdd", inputs, constants, domain=MICROSOFT, order="iccicccc"), inputs)


def spreads() -> Iterator[Case]:
    """QLinearAdd of the code of zero, as it spreads codes (E5): all 256 codes, on grids of random steps and offsets."""
    rng = np.random.default_rng(2)
    nodes, constants = [], {}
    for i in range(60):
        grid = strided_grid(
            Grid(float(10 ** rng.uniform(-3, 1)), float(rng.normal(0, 0.3)), 0, 2 ** int(rng.integers(2, 8)) - 1),
            padded=False,
        )
        values = [F(grid.trained.scale), U8(1), F(grid.scale), U8(grid.origin + grid.stride)]
        names = [f"{i}.{what}" for what in ("s", "z", "S", "Z")]
        constants.update(zip(names, values, strict=True))
        s, z, *out = names
        nodes.append(
            helper.make_node("QLinearAdd", ["x", s, z, z, s, z, *out], [f"y{i}"], f"spread{i}", domain=MICROSOFT)
        )
    inputs = {"x": EVERY.astype(U8).reshape(1, 256)}
    yield case("spread", "grids", build(nodes, inputs, {n.output[0]: U8 for n in nodes}, constants), inputs)


def pools() -> Iterator[Case]:
    """Averages with every sum that can occur, and the largest codes of windows."""
    rng = np.random.default_rng(3)
    for side in (2, 3, 4, 7, 8):
        pixels = side * side
        totals = np.arange(255 * pixels + 1)  # one channel for each sum that can occur
        codes = totals[:, None] // pixels + (np.arange(pixels) < totals[:, None] % pixels)
        x = codes.astype(U8).reshape(1, -1, side, side)
        for zero, y_zero, shrink in ((0, 0, 1.0), (128, 128, 1.0), (17, 90, 0.7)):
            s = float(F(rng.uniform(0.01, 0.1)))
            values = (np.interp(totals, [0, 255 * pixels], [0, 255]) - zero) * s
            y = F(clear_scale(values, s * shrink, -y_zero, 255 - y_zero))
            constants = [F(s), U8(zero), y, U8(y_zero)]
            model = node("QLinearGlobalAveragePool", {"x": x}, constants, domain=MICROSOFT, channels_last=0)
            yield case("QLinearGlobalAveragePool", f"{side}x{side}-{zero}", model, {"x": x})
    x = rng.integers(0, 256, (2, 190, 9, 11)).astype(U8)
    for i, scales in enumerate([(0.25, 0.25), *rng.uniform(0.03, 0.06, (3, 2))]):
        s, y = np.asarray(scales, F)
        window = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1], "count_include_pad": 0}
        model = node(
            "QLinearAveragePool", {"x": x}, [s, U8(9 * i), y, U8(40 * i)], domain=MICROSOFT, channels_last=0, **window
        )
        yield case("QLinearAveragePool", i, model, {"x": x})
    model = node("MaxPool", {"x": x}, [], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    yield case("MaxPool", "3x3", model, {"x": x})


def clips() -> Iterator[Case]:
    """Codes limited to fewer bits, as the integer fold does."""
    x = EVERY.astype(U8)
    yield case("Clip", "0-15", node("Clip", {"x": x}, [U8(0), U8(15)]), {"x": x})


def concatenations() -> Iterator[Case]:
    """QLinearConcat: all 256 codes, moved to another grid."""
    rng = np.random.default_rng(4)
    inputs = {"a": EVERY.astype(U8).reshape(1, 256, 1), "b": EVERY[::-1].astype(U8).reshape(1, 256, 1)}
    for i in range(4):
        s = rng.uniform(0.01, 0.1, 3).astype(F)
        z = rng.integers(0, 256, 3).astype(U8)
        constants = [s[0], z[0], s[1], z[1], s[2], z[2]]
        model = node("QLinearConcat", inputs, constants, domain=MICROSOFT, order="cciccicc", axis=1)
        yield case("QLinearConcat", i, model, inputs)


def convolution(
    rng: np.random.Generator, x: np.ndarray, w: np.ndarray, x_zero: int, w_zero: int, **attributes: Any
) -> onnx.ModelProto:
    """QLinearConv with a scale per channel, so that the outputs of each span the codes and a few saturate."""
    zeros = np.full(len(w), w_zero, w.dtype)
    model = node("ConvInteger", {"x": x}, [w, U8(x_zero), zeros], np.int32, **attributes)
    largest = np.abs(integer.run(model, {"x": x})["y"]).max((0, 2, 3))
    bias = (largest * rng.uniform(-0.1, 0.1, len(w))).astype(np.int32)
    w_scale = (140 / (0.02 * largest)).astype(F)
    return node("QLinearConv", {"x": x}, [F(0.02), U8(x_zero), w, w_scale, zeros, F(1), U8(120), bias], **attributes)


KINDS: dict[str, tuple[int, int, int, dict[str, Any]]] = {  # channels in and out, kernel, attributes
    "dense3x3": (19, 21, 3, {"pads": [1, 1, 1, 1]}),
    "dense3x3-stride2": (32, 32, 3, {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "dense5x5-dilation": (8, 16, 5, {"dilations": [2, 2], "pads": [1, 2, 3, 4]}),
    "dense7x7-rgb": (3, 16, 7, {"pads": [3, 3, 3, 3], "strides": [2, 2]}),
    "dense3x3-64": (64, 64, 3, {"pads": [1, 1, 1, 1]}),
    "pointwise": (67, 33, 1, {}),
    "depthwise3x3": (35, 35, 3, {"group": 35, "pads": [1, 1, 1, 1]}),
    "depthwise5x5-stride2": (32, 32, 5, {"group": 32, "pads": [2, 2, 2, 2], "strides": [2, 2]}),
    "grouped": (24, 32, 3, {"group": 4, "pads": [1, 1, 1, 1]}),
}


def convolutions() -> Iterator[Case]:
    """INT8 weights of ±64, or ±127 if depthwise, on inputs of 255 (E7), and UINT8 weights with zero point 128."""
    rng = np.random.default_rng(5)
    for name, (channels, out, kernel, attributes) in KINDS.items():
        x = rng.integers(0, 256, (3, channels, 11, 13)).astype(U8)
        x[1] = 255
        x[2] = rng.choice([0, 255], x[2].shape)
        shape = (out, channels // attributes.get("group", 1), kernel, kernel)
        limit = DEPTHWISE_LIMIT if attributes.get("group") == channels else WEIGHT_LIMIT
        w = rng.choice([-limit, 1 - limit, 0, 5, limit - 1, limit], shape).astype(S8)
        w[: out // 3], w[out // 3 : out // 2] = limit, -limit  # two products of 64 · 255 have the same sign
        model = convolution(rng, x, w, int(rng.integers(0, 256)), 0, **attributes)
        yield case("QLinearConv INT8", name, model, {"x": x})
        w = rng.integers(0, 256, shape).astype(U8)
        w[: out // 3], w[out // 3 : out // 2] = 255, 0
        model = convolution(rng, x, w, int(rng.integers(0, 256)), 128, **attributes)
        yield case("QLinearConv UINT8", name, model, {"x": x})


def products() -> Iterator[Case]:
    """QGemm, and the accumulator of a last layer."""
    rng = np.random.default_rng(6)
    x = rng.integers(0, 256, (5, 75)).astype(U8)
    x[1] = 255
    for kind, w in (
        ("s8", rng.choice([-64, 64], (10, 75)).astype(S8)),
        ("u8", rng.integers(0, 256, (10, 75)).astype(U8)),
    ):
        w_zero, w_scale = U8(128) if kind == "u8" else S8(0), rng.uniform(0.005, 0.02, 10).astype(F)
        bias = rng.integers(-2000, 2000, 10).astype(np.int32)
        zeros = np.full(10, w_zero)
        constants = [F(0.02), U8(7), w, w_scale, zeros, bias, F(0.15), U8(120)]
        model = node("QGemm", {"x": x}, constants, domain=MICROSOFT, alpha=1.0, transA=0, transB=1)
        yield case("QGemm", kind, model, {"x": x})
        nodes = [
            helper.make_node("MatMulInteger", ["x", "w", "zx", "zw"], ["product"], "product"),
            helper.make_node("Add", ["product", "bias"], ["accumulator"], "add"),
            helper.make_node("DequantizeLinear", ["accumulator", "scale"], ["y"], "y", axis=1),
        ]
        named = {"w": np.ascontiguousarray(w.T), "zx": U8(7), "zw": w_zero, "bias": bias, "scale": w_scale * F(0.02)}
        yield case("MatMulInteger", kind, build(nodes, {"x": x}, {"y": F}, named), {"x": x})


def ends() -> Iterator[Case]:
    """QuantizeLinear at ties and beside them, DequantizeLinear of every code."""
    rng = np.random.default_rng(7)
    for i, scale in enumerate([F(0.25), *rng.uniform(0.001, 1, 3).astype(F)]):
        ties = ((np.arange(-40, 300) + 0.5) * scale).astype(F)
        above, below = np.nextafter(ties, F(np.inf)), np.nextafter(ties, F(-np.inf))
        x = np.concatenate([ties, above, below, rng.normal(0, 200 * scale, 1001).astype(F)])
        zero = U8(rng.integers(0, 256))
        yield case("QuantizeLinear", i, node("QuantizeLinear", {"x": x}, [scale, zero]), {"x": x})
        codes = EVERY.astype(U8)
        yield case("DequantizeLinear", i, node("DequantizeLinear", {"x": codes}, [scale, zero], F), {"x": codes})


def sabotage() -> Iterator[Case]:
    """Cases that must differ: without them the comparison could not fail."""
    rng = np.random.default_rng(8)
    x = np.full((1, 16, 9, 9), 255, U8)
    w = np.stack([np.full((16, 3, 3), 127, S8), np.full((16, 3, 3), -127, S8)])
    model = node("QLinearConv", {"x": x}, [F(0.02), U8(0), w, F(0.01), S8(0), F(10), U8(100), np.zeros(2, np.int32)])
    here = () if "vnni" in Path("/proc/cpuinfo").read_text() else ("host",)
    # Two products do not fit the 16 bits of these machines.
    yield case("sabotage: weights of 127 (E7)", "", model, {"x": x}, "avx2", *here)

    a, b = (v.astype(U8) for v in np.meshgrid(EVERY, EVERY, indexing="ij"))
    # Every sum is 5.9e-5 steps or more from a tie: float32 rounds them all alike, fixed point does not
    # (calib/rounding/fixed_point.py).
    constants = [F(0.006179411), U8(240), F(0.015882032), U8(11), F(0.008824789), U8(75)]
    model = node("QLinearAdd", {"a": a, "b": b}, constants, domain=MICROSOFT, order="iccicccc")
    yield case("sabotage: sum beside a tie", "", model, {"a": a, "b": b}, "arm64", "arm64-a72")

    x = rng.integers(0, 256, (1, 8, 9, 9)).astype(U8)
    w = rng.integers(-1, 2, (8, 8, 3, 3)).astype(S8)
    constants = [F(0.02), U8(3), w, F(0.01), S8(0), F(0.002), U8(128)]
    ran, meant = (node("QLinearConv", {"x": x}, [*constants, np.full(8, bias, np.int32)]) for bias in (0, 1))
    yield case("sabotage: bias off by one", "", ran, {"x": x}, *MACHINES, meant=meant)
