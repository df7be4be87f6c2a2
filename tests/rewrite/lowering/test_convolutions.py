"""convolutions: Depthwise and Conv, with the table behind them; the same codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsq_export.kernels import SOURCE
from lsq_export.rewrite.emit import emit
from lsq_export.rewrite.lowering import few_codes
from lsq_export.rewrite.lowering.convolutions import convolution
from lsq_export.targets import ORT_CPU
from support.differing import differing
from support.networks import LOW, Case, Wired, folded, inputs


def network() -> Case:
    """Convolutions of several forms, one after the other; then a dense layer."""
    layers = {
        "a": nn.Conv2d(3, 12, 3, padding=1),
        "b": nn.Conv2d(12, 12, 3, padding=1, groups=12),
        "c": nn.Conv2d(12, 40, 1, bias=False),
        "d": nn.Conv2d(40, 8, 3, stride=2, dilation=2),
        "e": nn.Conv2d(8, 8, 3, groups=2),
        "last": nn.Linear(8, 4),
    }
    return Case(lambda: Wired(_forward, **layers), LOW)


def _forward(s: Any, x: torch.Tensor) -> torch.Tensor:
    x = F.silu(s.c(F.relu(s.b(F.silu(s.a(x))))))
    return s.last(s.e(F.relu(s.d(x))).mean((2, 3)))


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type.rstrip("0123456789") for node in model.graph.node]


def test_every_tensor_is_that_of_the_qoperator_file() -> None:
    made = folded(network())
    file = emit(made.model, "lookup", ORT_CPU)
    found = kinds(file)
    assert [found.count(kind) for kind in ("Conv", "Depthwise", "QLinearConv")] == [3, 1, 1]  # two groups stay stock
    assert differing(made, inputs(5, 3, spread=3.0).numpy()) == []  # a batch of five


def test_the_stem_reads_colors_as_they_come() -> None:
    """Its kernel reads three planes; without the library they are copied and transposed, as is faster there."""
    file = emit(folded(network()).model, "lookup", ORT_CPU)
    assert kinds(file)[:3] == ["QuantizeLinear", "Lookup", "Conv"] and "Gather" not in kinds(file)
    stem = next(node for node in file.graph.node if node.op_type.startswith("Conv"))
    body = next(function for function in file.functions if function.name == stem.op_type)
    assert [node.op_type for node in body.node][:3] == ["Gather", "Transpose", "QLinearConv"]
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in file.graph.initializer}
    numbers, own, read, wide = (constants[stem.input[place]] for place in (2, 5, 11, 12))
    assert numbers.tolist() == [1, 1, 1, 1, 1, 1, 1, 1, 1] and own.shape == (12, 3, 3, 3)
    summed = np.zeros(own.shape, int)
    for channel, color in enumerate(read):
        summed[:, color] += wide[:, channel]
    assert np.array_equal(own, summed)


@pytest.mark.parametrize("weight", [127, 128])
def test_a_stem_whose_sums_are_no_int8_reads_its_copies(weight: int) -> None:
    codes = np.zeros((4, 4, 1, 2), np.int8)
    codes[0, 2, 0, 0], codes[0, 3, 0, 0] = weight - 64, 64
    initial = {
        "channels": np.array([0, 1, 2, 2]),
        "s": np.float32(0.1),
        "z": np.uint8(3),
        "w": codes,
        "wz": np.int8(0),
        "b": np.zeros(4, np.int32),
    }
    nodes = [
        onnx.helper.make_node("Gather", ["x", "channels"], ["wide"], axis=1),
        onnx.helper.make_node("Transpose", ["wide"], ["last"], perm=[0, 2, 3, 1]),
        onnx.helper.make_node(
            *("QLinearConv", ["last", "s", "z", "w", "s", "wz", "s", "z", "b"], ["y"]),
            name="stem",
            domain="com.microsoft",
            channels_last=1,
        ),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "stem",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, [1, 3, 4, 4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, None)],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in initial.items()],
        value_info=[onnx.helper.make_tensor_value_info("last", onnx.TensorProto.UINT8, [1, 4, 4, 4])],
    )
    node = ir.from_proto(onnx.helper.make_model(graph)).graph[2]
    head = convolution(node)
    assert head is not None and [step.op_type for step, _ in head.steps] == (
        ["Gather", "Transpose", "QLinearConv"] if weight == 127 else ["QLinearConv"]
    )


def _geometries(case: Case) -> list[list[int]]:
    """Of the convolutions in one group, in order."""
    file = emit(folded(case).model, "lookup", ORT_CPU)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in file.graph.initializer}
    return [constants[node.input[2]].tolist() for node in file.graph.node if node.op_type.startswith("Conv")]


def two_convolutions(bits: int) -> Case:
    """3×3 behind 3×3, with a pool between them."""
    layers = {"a": nn.Conv2d(3, 8, 3, padding=1), "b": nn.Conv2d(8, 8, 3, padding=1), "last": nn.Linear(8, 4)}
    forward = lambda s, x: s.last(F.relu(s.b(F.max_pool2d(F.relu(s.a(x)), 2))).mean((2, 3)))  # noqa: E731
    return Case(lambda: Wired(forward, **layers), {**LOW, "weight_bits": bits, "activation_bits": bits})


def test_the_exporter_and_the_kernel_mean_the_same_few_codes() -> None:
    assert f"MOST_CODES = {few_codes.MOST}," in (SOURCE / "winograd.h").read_text(encoding="utf-8")


def test_the_few_codes_of_images_are_told() -> None:
    """16 codes, an equal step apart: fewer multiplications in the kernel. Those of 8 bits are too many."""
    stem, other = _geometries(two_convolutions(4))
    assert stem[8:] == [1] and other[:9] == [1, 1, 1, 1, 1, 1, 1, 1, 0]
    low, step, count = other[9:]
    assert count == 16 and step > 1 and low >= 0 and low + step * 15 <= 255
    assert all(len(numbers) < 12 for numbers in _geometries(two_convolutions(8)))
