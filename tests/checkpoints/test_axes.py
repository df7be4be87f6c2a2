"""The axis that scales of a weight are along: of transposed convolutions the first one is that of their inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from calib.errors import QuantizationError
from lsq_export.checkpoints.network import AdoptedModel, read_checkpoint


class Up(nn.Module):
    """[N, 4, 3, 3] -> [N, 4, 6, 6]; as many input channels as output channels."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.up(x)
        return y


def _adopted(path: Path, scale: torch.Tensor, quantizer: str, **said: Any) -> tuple[AdoptedModel, dict[str, Any]]:
    torch.manual_seed(2)
    state: dict[str, Any] = {**Up().state_dict(), quantizer: scale}
    if quantizer.endswith("scale"):
        state[quantizer.replace("scale", "zero_point")] = torch.zeros(scale.shape, dtype=torch.int32)
    torch.save(state, path / "net.pt")
    return read_checkpoint(path / "net.pt", Up(), _x(), bits=4, **said), state


def _x() -> torch.Tensor:
    return torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1))


SCALE = torch.tensor([0.03, 0.05, 0.08, 0.13])


@pytest.mark.parametrize(
    ("quantizer", "shape", "axis"),
    [
        ("up.weight_quantizer._amax", (4, 1, 1, 1), 0),  # ModelOpt
        ("up.weight_quantizer._amax", (1, 4, 1, 1), 1),
        ("up._weight_quantizer.scale", (4,), 0),  # Quark
        ("up.weight_fake_quant.scale", (4,), 1),  # torch.ao
    ],
)
def test_scales_are_along_the_axis_that_the_library_has(
    quantizer: str, shape: tuple[int, ...], axis: int, tmp_path: Path
) -> None:
    stored = SCALE * 7 if quantizer.endswith("_amax") else SCALE
    adopted, state = _adopted(tmp_path, stored.reshape(shape), quantizer)
    scale = SCALE.reshape((4, 1, 1, 1) if axis == 0 else (1, 4, 1, 1))
    weight = (state["up.weight"] / scale).round().clamp(-8, 7) * scale
    with torch.no_grad():
        found = adopted.module(_x())
    torch.testing.assert_close(found, F.conv_transpose2d(_x(), weight, state["up.bias"], stride=2), atol=1e-5, rtol=0)
    assert [entry.why for entry in adopted.left] == ["it stays float: its weight has scales along its inputs"] * (
        axis == 0
    )


def test_scales_of_parts_of_a_channel_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match=r"16 scales for the 4 output channels of up: .* several parts"):
        _adopted(tmp_path, torch.ones(16, 1), "up.weight_quantizer._amax")
