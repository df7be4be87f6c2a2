"""dense_groups: for OpenCV, convolutions of single pixels have one group, and the same sums."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from onnx.reference import ReferenceEvaluator
from torch import nn

import lsq_export
from lsq_export import lint
from lsq_export.calibrating import DEFAULT
from lsq_export.graph.read import attribute
from lsq_export.rewrite.lowering.dense_groups import dense_groups
from support.onnx_files import F32, I8, U8, build, node

CHANNELS = 6
SHAPE = (1, ["N", CHANNELS, 5, 5])  # float


def grouped(weight: np.ndarray, zeros: np.ndarray | None, groups: int) -> ir.Model:
    """zeros: of the codes of the weight; None for a float weight."""
    nodes = [
        node("QuantizeLinear", "x s z", "q", name="q"),
        node("DequantizeLinear", "q s z", "v", name="v"),
        node("DequantizeLinear", "w ws wz", "wv", name="w", axis=0),
        node("Conv", "v wv" if zeros is not None else "v w", "y", name="conv", group=groups),
    ]
    grid = {} if zeros is None else {"ws": np.full(len(weight), 0.25, F32), "wz": zeros}
    if zeros is None:
        nodes.pop(2)
    return ir.from_proto(build(nodes, 19, SHAPE, s=F32(0.5), z=U8(3), w=weight, **grid))


@pytest.mark.parametrize(("kind", "zeros"), [(I8, 0), (U8, 128), (F32, None)])
@pytest.mark.parametrize(
    ("groups", "kernel", "densed"), [(2, 1, True), (3, 1, True), (6, 1, False), (1, 1, False), (2, 3, False)]
)
def test_sums_are_the_same(kind: type, zeros: int | None, groups: int, kernel: int, densed: bool) -> None:
    """Where pixels are in groups of several channels, they have one; each channel has another zero point."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 100, (12, CHANNELS // groups, kernel, kernel)).astype(kind)
    points = None if zeros is None else (np.arange(12) + zeros).astype(kind)
    model, x = grouped(codes, points, groups), random.normal(size=(2, CHANNELS, 5, 5)).astype(F32) * 9
    before = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})[0]
    dense_groups(model)
    conv = next(n for n in model.graph if n.op_type == "Conv")
    assert attribute(conv, "group") == (1 if densed else groups)
    np.testing.assert_array_equal(ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})[0], before)
    found = {f.rule for f in lint(ir.to_proto(grouped(codes, points, groups)), "opencv").findings}
    assert ("grouped-pixels" in found) == densed
    assert "grouped-pixels" not in {f.rule for f in lint(ir.to_proto(model), "opencv").findings}


class Grouped(nn.Module):
    """A convolution of single pixels in groups, and one whose weight is computed. [N, 3, 8, 8] -> [N, 8, 6, 6]."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1, groups=2), nn.Linear(8, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.b(torch.relu(self.a(x))))
        weight = self.c(y.mean((0, 2, 3))[None])[0].reshape(8, 4, 1, 1)
        return F.conv2d(y, weight, groups=2)


@pytest.mark.parametrize("layers", [{}, {"b": "float"}])
def test_layers_that_stay_float_have_one_group_too(layers: dict[str, Any], tmp_path: Path) -> None:
    """A weight that the network computes stays as it is."""
    x = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    network = lsq_export.calibrate(Grouped().eval(), [x], replace(DEFAULT, layers=layers))
    bundle = lsq_export.export(network, x[:1], tmp_path / "o", calibration=[x], target="opencv", sample=False)
    assert bundle.parity is not None and bundle.parity.ok
    convolutions = [n for n in onnx.load(bundle.models["qdq"]).graph.node if n.op_type == "Conv"]
    assert [next((a.i for a in n.attribute if a.name == "group"), 1) for n in convolutions] == [1, 1, 2]
