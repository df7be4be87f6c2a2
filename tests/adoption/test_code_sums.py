"""lsq_export/adoption/code_sums.py: files whose layers sum codes are adopted, and shown, as those that do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lsq_export
from lsq_export.adoption.network import OnnxNetwork, read_quantized
from lsq_export.graph.read import array_of, attribute, is_marker
from lsq_export.inspection.tensors import inspect_path
from lsq_export.verification.runtime import Session, inputs_of

SUMMING = ("onnx-standard", "opencv", "portable")


class Net(nn.Module):
    """A residual sum, whose codes have several readers, and codes that layers alone read."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x).relu()
        return self.fc((y + self.c(self.b(y).clamp(0, 6))).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def files(images: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """{target: its qdq file} of one calibrated network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = lsq_export.calibrate(Net().eval(), [images])
    made = {}
    for target in ("ort-cpu", *SUMMING):
        out = tmp_path_factory.mktemp("sums") / target
        lsq_export.export(model, images[:1], out, calibration=[images], target=target, formats=["qdq"])
        made[target] = out / "qdq" / "model.onnx"
    return made


def grids(network: OnnxNetwork) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(kind, scale, values of a weight) of each grid, in the order of the network."""
    return [
        (attribute(node, "kind"), array_of(node.inputs[1]), array_of(node.inputs[0]))
        for node in network.captured.model.graph
        if is_marker(node)
    ]


@pytest.mark.parametrize("target", SUMMING)
def test_they_have_the_grids_of_the_plain_file(target: str, files: dict[str, Path]) -> None:
    plain, summed = read_quantized(files["ort-cpu"]), read_quantized(files[target])
    assert not plain.left and not summed.left
    wanted, found = grids(plain), grids(summed)
    assert [kind for kind, *_ in wanted] == [kind for kind, *_ in found]
    for (kind, scale, weight), (_, other, values) in zip(wanted, found, strict=True):
        if weight is not None and values is not None:  # codes that layers alone read have any scale
            assert kind == "weight" and np.array_equal(np.rint(weight / along(scale)), np.rint(values / along(other)))
    assert sum(np.allclose(a, b) for (_, a, _), (_, b, _) in zip(wanted, found, strict=True)) > len(wanted) / 2


def along(scale: np.ndarray) -> np.ndarray:
    return scale.reshape(-1, *[1] * 3) if scale.size == 8 else scale.reshape(-1, 1) if scale.size == 4 else scale


@pytest.mark.parametrize("target", SUMMING)
def test_the_adopted_network_computes_what_the_file_does(
    target: str, files: dict[str, Path], images: torch.Tensor, tmp_path: Path
) -> None:
    bundle = lsq_export.adopt(files[target], tmp_path / "out", calibration=[images])
    assert bundle.parity is not None and bundle.parity.ok and bundle.parity.capture_error < 1e-6
    network = read_quantized(files[target])
    session = Session(network.plain, "disabled")
    assert inputs_of(network.plain) and session.run(images.numpy())  # what it is held against is the file as it is


@pytest.mark.parametrize("target", SUMMING)
def test_inspect_has_one_row_for_each_grid(target: str, files: dict[str, Path]) -> None:
    def scales(path: Path) -> dict[str, list[object]]:
        rows = [row for row in inspect_path(path)[0][1] if row.kind == "activation"]
        return {row.name: [other.scale for other in rows if other.name == row.name] for row in rows}

    found, plain = scales(files[target]), scales(files["ort-cpu"])
    assert all(len(rows) == 1 for rows in found.values())
    assert all(rows in (plain[name], [(1.0,)]) for name, rows in found.items())  # 1: layers alone read them
    assert sum(rows != [(1.0,)] for rows in found.values()) > len(found) / 2
