"""The small network of tests/adoption/samples/ in float, and what each of its checkpoints needs to be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lsq_export.checkpoints.network import AdoptedModel, read_checkpoint
from support.adopted import SAMPLES, inputs


class Net(nn.Module):
    """Images [N, 3, 16, 16] -> [N, 10], before any library changed it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.dw = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.silu = nn.SiLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        logits: torch.Tensor = self.fc(torch.flatten(self.pool(self.gate(self.dw(y)) + y), 1))
        return logits

    def gate(self, y: torch.Tensor) -> torch.Tensor:
        """SiLU."""
        gated: torch.Tensor = self.silu(y)
        return gated


class HardNet(Net):
    """What Quark's FX mode makes of it: SiLU becomes y · hardsigmoid(y)."""

    def gate(self, y: torch.Tensor) -> torch.Tensor:
        return y * F.hardsigmoid(y)


@dataclass(frozen=True, kw_only=True)
class Case:
    """file, outputs: in SAMPLES. said: keywords of `read_checkpoint`. net: a class."""

    file: str
    outputs: str
    said: dict[str, Any] = field(default_factory=dict)
    net: type[nn.Module] = Net


def _grid(layer: str, role: str, scale: float, zero_point: int, *, signed: bool = False) -> dict[str, Any]:
    """A grid that is in a graph's code and not in its state_dict."""
    return {"layer": layer, "role": role, "scale": scale, "zero_point": zero_point, "signed": signed, "bits": 8}


BREVITAS = {
    "bits": 4,
    "activations": "unsigned",
    "weights": "channel",
    "bias": "int32",
    "places": {"q_in": "x", "q_silu": "silu", "q_pool": "pool"},
}
UNSIGNED = {"mapping": {"activations": "unsigned"}}
SIGNED = {"mapping": {"activations": "signed"}}
MCT = {"bits": 8, "activations": "signed", "unsigned": ["relu"]}
AIMET = "aimet-torch/qat_state_dict.pt"
CASES = {
    "torch.ao, 4 bits": Case(file="torch-fx-qat/qat_state_dict.pt", outputs="torch-fx-qat/outputs"),
    "torch.ao, 8 bits": Case(file="torch-fx-qat/qat8_state_dict.pt", outputs="torch-fx-qat/qat8.outputs"),
    "torch.ao, learnable": Case(
        file="torch-fx-qat/learnable4_state_dict.pt",
        outputs="torch-fx-qat/learnable4.outputs",
        said={"bits": 4, **UNSIGNED},
    ),
    "torchao, XNNPACK": Case(
        file="torchao-pt2e-qat/xnn4_prepared_state_dict.pt", outputs="torchao-pt2e-qat/xnn4_prepared.outputs"
    ),
    "torchao, x86": Case(
        file="torchao-pt2e-qat/x86_prepared_state_dict.pt", outputs="torchao-pt2e-qat/x86_prepared.outputs"
    ),
    "torchao, converted": Case(
        file="torchao-pt2e-qat/xnn8_converted_state_dict.pt",
        outputs="torchao-pt2e-qat/xnn8_converted.outputs",
        said={
            "bits": 8,
            "mapping": {
                "library": "torchao, converted",
                "quantizers": [
                    _grid("x", "output", 0.0256899856030941, -9, signed=True),
                    _grid("relu", "output", 0.021105004474520683, -128, signed=True),
                    _grid("dw", "output", 0.01850832626223564, 5, signed=True),
                    _grid("silu", "output", 0.009011369198560715, -97, signed=True),
                    _grid("add", "output", 0.01998290605843067, -116, signed=True),
                    _grid("pool", "output", 0.01998290605843067, -116, signed=True),
                    _grid("flatten", "output", 0.01998290605843067, -116, signed=True),
                    _grid("fc", "output", 0.0025677839294075966, 16, signed=True),
                ],
            },
        },
    ),
    "neural-compressor": Case(
        file="neural-compressor/static_state_dict.pt",
        outputs="neural-compressor/outputs",
        said={
            "bits": 8,
            "mapping": {
                "library": "torchao, converted",
                "quantizers": [
                    _grid("conv1", "input", 0.02521970495581627, 128),
                    _grid("dw", "input", 0.01928223855793476, 0),
                    _grid("fc", "input", 0.00365106831304729, 8),
                ],
            },
        },
    ),
    "Brevitas": Case(file="brevitas/qat_state_dict.pt", outputs="brevitas/outputs", said={"mapping": BREVITAS}),
    "NNCF, 8 bits": Case(file="nncf/qat8_state_dict.pt", outputs="nncf/qat8.outputs"),
    "NNCF, 4 bits": Case(file="nncf/qat_w4a8_npu_state_dict.pt", outputs="nncf/qat_w4a8_npu.outputs"),
    "AIMET": Case(file=AIMET, outputs="aimet-torch/outputs"),
    "AIMET, saved encodings": Case(
        file=AIMET, outputs="aimet-torch/outputs", said={"encodings": SAMPLES / "aimet-torch" / "saved_encodings.json"}
    ),
    "AIMET, exported encodings": Case(
        file=AIMET,
        outputs="aimet-torch/outputs",
        said={"encodings": SAMPLES / "aimet-torch" / "encodings_torch.encodings"},
    ),
    "AIMET, encodings by tensors": Case(
        file=AIMET,
        outputs="aimet-torch/outputs",
        said={
            "encodings": SAMPLES / "aimet-torch" / "encodings.encodings",
            "mapping": {"places": {"t.1": "x", "37": "fc"}},
        },
    ),
    "ModelOpt, 8 bits": Case(
        file="nvidia-modelopt/w8a8_state_dict.pt", outputs="nvidia-modelopt/w8a8.outputs", said={"bits": 8, **SIGNED}
    ),
    "ModelOpt, 4 bits": Case(
        file="nvidia-modelopt/w4a4_state_dict.pt", outputs="nvidia-modelopt/w4a4.outputs", said={"bits": 4, **SIGNED}
    ),
    "ModelOpt, a real offset": Case(
        file="nvidia-modelopt/w8a8_bias_state_dict.pt",
        outputs="nvidia-modelopt/w8a8_bias.outputs",
        said={"bits": 8, **SIGNED},
    ),
    "ModelOpt, its own file": Case(
        file="nvidia-modelopt/w8a8_unsigned_modelopt.pt", outputs="nvidia-modelopt/w8a8_unsigned.outputs"
    ),
    "Quark, 8 bits": Case(
        file="amd-quark-torch/minmax8_eager_state_dict.pt",
        outputs="amd-quark-torch/minmax8_eager.outputs",
        said={"bits": 8, **UNSIGNED},
    ),
    "Quark, 4 bits": Case(
        file="amd-quark-torch/minmax4_eager_state_dict.pt",
        outputs="amd-quark-torch/minmax4_eager.outputs",
        said={"bits": 4, **UNSIGNED},
    ),
    "Quark, FX": Case(
        file="amd-quark-torch/minmax4_fx_state_dict.pt",
        outputs="amd-quark-torch/minmax4_fx.outputs",
        said={"bits": 4, **UNSIGNED},
        net=HardNet,
    ),
    "MCT, deployed": Case(
        file="mct/qat_state_dict.pt", outputs="mct/qat.outputs", said={"mapping": {**MCT, "thresholds": "power-of-two"}}
    ),
    "MCT, trained": Case(
        file="mct/qat_state_dict.pt", outputs="mct/qat_train.outputs", said={"mapping": {**MCT, "thresholds": "free"}}
    ),
}


def adopted(name: str, **said: Any) -> AdoptedModel:
    """A case, or with other keywords."""
    case = CASES[name]
    return read_checkpoint(SAMPLES / case.file, case.net(), inputs(), **{**case.said, **said})


def simulated(name: str) -> np.ndarray:
    """[8, 10], what the library's own simulation makes of the inputs."""
    return np.asarray(np.load(SAMPLES / f"{CASES[name].outputs}.npz")["output_0"])


def outputs_of(model: nn.Module) -> np.ndarray:
    """[8, 10] of the inputs of the samples."""
    with torch.no_grad():
        return np.asarray(model(inputs()).numpy())
