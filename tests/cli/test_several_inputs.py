"""A network of several inputs (floats, tokens, a mask) on the command line, from an npz file with an array for each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from lsq_export.data.loading import load
from lsq_export.training.checkpoint import restore
from support.commands import invoke

NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv, self.table = nn.Conv2d(2, 4, 3), nn.Embedding(9, 4)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, image, tokens, mask):
        words = (self.table(tokens) * mask.unsqueeze(-1)).sum(1)
        return self.fc(torch.relu(self.conv(image)).mean((2, 3)) + words)
"""

STAYS_FLOAT = "ignore:layers that stay float, since they have no integer form. table"
pytestmark = pytest.mark.filterwarnings(STAYS_FLOAT)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    image = rng.random((60, 2, 6, 6)).astype(np.float32) + y[:, None, None, None]
    tokens, mask = rng.integers(0, 9, (60, 5)), rng.random((60, 5)) > 0.3
    np.savez(tmp_path / "d.npz", image=image, tokens=tokens, mask=mask, y=y)
    (tmp_path / "netofthree.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_export_verify(place: Path) -> None:
    train = ["train", "--model", "netofthree:Net", "--data", "npz:d.npz", "--epochs", "1", "--float-epochs", "1"]
    trained = invoke(*train, "--out", "q.safetensors")
    assert trained.exit_code == 0, trained.stderr
    exported = invoke("export", "q.safetensors", "--model", "netofthree:Net", "--out", "out")
    assert exported.exit_code == 0, exported.stderr
    verified = invoke("verify", "out", "--json")
    assert verified.exit_code == 0, verified.stderr
    found = json.loads(verified.stdout)
    assert found["ok"] and found["images"] == 12 and found["differences"] == []
    data = load("npz:d.npz")
    model, checkpoint = restore("q.safetensors", model="netofthree:Net")
    assert checkpoint.input_shape == data.input_shape == {"image": (2, 6, 6), "tokens": (5,), "mask": (5,)}
    x, _ = next(iter(data.batches("test", 12)))
    session = ort.InferenceSession(place / "out" / "qoperator" / "model.onnx", providers=["CPUExecutionProvider"])
    (ours,) = session.run(None, {name: tensor.numpy() for name, tensor in x.by_name.items()})
    theirs = model(**x.by_name).detach().numpy()
    assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.8


def test_check_and_other_data(place: Path) -> None:
    checked = invoke("check", "--model", "netofthree:Net", "--data", "npz:d.npz", "--json")
    assert checked.exit_code == 0 and json.loads(checked.stdout)["outputs"][0]["name"] == "output", checked.stderr
    images = invoke("train", "--model", "tiny", "--data", "npz:d.npz", "--out", "t.safetensors")
    assert images.exit_code == 2 and "tiny takes images, npz:d.npz has the inputs image [2, 6, 6]" in images.stderr
