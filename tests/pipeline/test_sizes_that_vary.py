"""Height and width that vary, where the network computes with them: sizes after strides, pads, crops, views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lsq_export

SIZES = ((32, 32), (24, 40), (37, 51), (33, 64))


class Sizes(nn.Module):
    """How: what is done with the sizes of a map of half the height and width, and of one of a quarter."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.second, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 4, 1)
        if how in ("padded", "cropped"):
            self.up = nn.ConvTranspose2d(8, 8, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        z = torch.relu(self.second(y))
        return self.last(getattr(self, self.how)(y, z))

    def resized(self, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return y + F.interpolate(z, size=y.shape[-2:], mode="nearest")

    def padded(self, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        z = self.up(z)
        down, right = y.shape[2] - z.shape[2], y.shape[3] - z.shape[3]
        return y + F.pad(z, [right // 2, right - right // 2, down // 2, down - down // 2])

    def cropped(self, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return y + self.up(z)[:, :, : y.shape[2], : y.shape[3]]

    def viewed(self, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = y.shape
        tokens = y.view(batch, channels, height * width).transpose(1, 2)
        return tokens.reshape(batch, height, width, channels).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    "how", ["resized", *(pytest.param(how, marks=pytest.mark.slow) for how in ("padded", "cropped", "viewed"))]
)
def test_one_file_takes_every_size(how: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    batches = [torch.randn(4, 3, 32, 32) for _ in range(2)]
    model = lsq_export.calibrate(Sizes(how).eval(), batches)
    axes = {2: "height", 3: "width"}
    bundle = lsq_export.export(model, batches[0], tmp_path / "out", calibration=batches, dynamic=axes)
    assert bundle.parity is not None and bundle.parity.ok, bundle.parity.failures
    for file in bundle.models.values():
        session = ort.InferenceSession(str(file))
        for height, width in SIZES:
            x = torch.randn(2, 3, height, width)
            (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
            with torch.no_grad():
                wanted = model(x).numpy()
            assert found.shape == wanted.shape
            assert np.square(found - wanted).sum() < 1e-2 * np.square(wanted).sum()


def test_sizes_are_whole_numbers_when_they_are_divided() -> None:
    import onnx_ir as ir

    from lsq_export.graph.operators import OPERATORS

    node = ir.node("Div", [ir.val("a"), ir.val("b")])
    whole, floats = torch.tensor([7, -7]), torch.tensor([7.0])
    assert OPERATORS["Div"].meaning(node, [whole, torch.tensor(2)]).tolist() == [3, -3]
    assert OPERATORS["Div"].meaning(node, [floats, torch.tensor(2.0)]).tolist() == [3.5]
