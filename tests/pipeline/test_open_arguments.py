"""Forwards that hand their arguments on: *args, **kwargs, and wrappers that keep averages of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import lsq_export


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, image: torch.Tensor, factor: torch.Tensor | None = None) -> torch.Tensor:
        z = torch.relu(self.a(image)).mean((2, 3))
        return self.b(z if factor is None else z * factor)


class Wrapper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Scaled()


class Positional(Wrapper):
    def forward(self, *args: torch.Tensor) -> torch.Tensor:
        return self.net(*args)


class Both(Wrapper):
    def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> torch.Tensor:
        return self.net(*args, **kwargs)


class Named(Wrapper):
    def forward(self, **kwargs: torch.Tensor) -> torch.Tensor:
        return self.net(**kwargs)


class More(Wrapper):
    def forward(self, image: torch.Tensor, **kwargs: torch.Tensor) -> torch.Tensor:
        return self.net(image, **kwargs)


def averaged() -> nn.Module:
    return AveragedModel(Scaled())


def given(form: str) -> Any:
    image, factor = torch.randn(4, 3, 6, 6), torch.rand(4, 1) + 0.5
    return {"one": image, "tuple": (image, factor), "names": {"image": image, "factor": factor}}[form]


@pytest.mark.parametrize(
    ("maker", "form"),
    [
        (Positional, "one"),
        (Positional, "tuple"),
        (Both, "tuple"),
        (Both, "names"),
        (Named, "names"),
        (More, "names"),
        (averaged, "one"),
        (averaged, "tuple"),
    ],
)
def test_what_a_forward_hands_on_is_exported_with_any_batch(maker: Any, form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    batches = [given(form) for _ in range(3)]
    model = lsq_export.calibrate(maker().eval(), batches)
    bundle = lsq_export.export(model, batches[0], tmp_path / "out", calibration=batches, formats=["qdq"])
    assert bundle.parity is not None and bundle.parity.ok
    session = ort.InferenceSession(str(bundle.models["qdq"]))
    arrays = batches[0].values() if form == "names" else batches[0] if form == "tuple" else [batches[0]]
    names = [entry.name for entry in session.get_inputs()]
    assert names == {"one": names, "tuple": names, "names": ["image", "factor"]}[form] and len(names) == len(arrays)
    (found,) = session.run(None, {name: array[:3].numpy() for name, array in zip(names, arrays, strict=True)})
    assert found.shape == (3, 2)


def test_labels_of_a_batch_are_no_input_of_an_open_forward() -> None:
    batches = [{**given("names"), "labels": torch.zeros(4)} for _ in range(2)]
    lsq_export.calibrate(Named().eval(), batches)
