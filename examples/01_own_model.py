"""From a network and a training loop of your own to integer ONNX that is verified: python 01_own_model.py [DIR]"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

import calib
import lsq_export
from lsq_export.data import Sample

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.images[:, None], dtype=torch.float32) / 16  # [1797, 1, 8, 8]
y = torch.tensor(digits.target)
train, test = (x[:1400], y[:1400]), (x[1400:], y[1400:])


def fit(model: nn.Module, epochs: int, lr: float) -> None:
    """Any loop will do: nothing in it knows of quantizers."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(train[0])).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(train[0][batch]), train[1][batch]).backward()
            optimizer.step()
    model.eval()


def accuracy(model: nn.Module) -> float:
    with torch.no_grad():
        return (model(test[0]).argmax(1) == test[1]).double().mean().item()


net = nn.Sequential(
    *(nn.Conv2d(1, 16, 3, padding=1), nn.SiLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.SiLU()),
    *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
)
fit(net, epochs=20, lr=5e-3)
print(f"float         {accuracy(net):.1%}")

# A copy with fake quantizers, whose scales and offsets get their first values from some batches.
config = lsq_export.QATConfig(weight_bits=4, activation_bits=4)
model = lsq_export.prepare(net, config)
calibration = train[0][:512].split(64)
calib.initialize(model, calibration, method="mse")
fit(model, epochs=5, lr=1e-3)  # weights, scales and offsets together
print(f"W4A4, trained {accuracy(model):.1%}")

bundle = lsq_export.export(
    model,
    test[0][:1],
    sys.argv[1] if len(sys.argv) > 1 else "out-own-model",
    calibration=calibration,
    preprocessing={"divide_by": 16.0},
    sample=Sample(digits.images[1400], test[0][0], int(test[1][0])),  # for those who get the files
)
parity = lsq_export.verify(model, bundle, [test])
for name, file in parity.formats.items():
    print(f"{name:13} {file.accuracy:.1%}, {file.reference_mismatch} elements differ from the integer reference")
print("all promises hold" if parity.ok else "\n".join(parity.failures))
print(f"the files are in {bundle.directory}; run.py there runs them")
sys.exit(not parity.ok)
