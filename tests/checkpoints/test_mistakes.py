"""Checkpoints that cannot be adopted: one line each, and nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from calib.errors import QuantizationError, QuantizationWarning
from lsq_export import adopt
from lsq_export.checkpoints.network import read_checkpoint
from support.adopted import SAMPLES, inputs
from support.other_libraries import BREVITAS, MCT, SIGNED, Net, adopted

FX, AIMET = SAMPLES / "torch-fx-qat" / "qat8_state_dict.pt", SAMPLES / "aimet-torch" / "qat_state_dict.pt"
MODELOPT = SAMPLES / "nvidia-modelopt" / "w8a8_state_dict.pt"


class Wide(Net):
    """Another number of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 12)


class Other(nn.Module):
    """Another network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.stem(x).mean((2, 3)))
        return logits


def _changed(tmp_path: Path, source: Path, **changed: torch.Tensor | None) -> Path:
    """Tensors replaced, or left out (None)."""
    state = {**torch.load(source, weights_only=True), **changed}
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, tmp_path / "net.pt")
    return tmp_path / "net.pt"


def _refused(tmp_path: Path, file: Path, said: str, net: nn.Module | None = None, **keywords: Any) -> None:
    with pytest.raises(QuantizationError) as error:
        adopt(file, tmp_path / "out", model=net or Net(), calibration=[inputs()], **keywords)
    assert said in str(error.value), str(error.value)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "net", "said"),
    [
        (AIMET, Wide, "fc.weight has the shape [10, 8], the network's [12, 8]: it is of another network"),
        (AIMET, Other, "the network has no silu.sigmoid, silu.mul, conv1, … (9 in all)"),
        (SAMPLES / "nncf" / "qat8_state_dict.pt", Other, "the network has no conv1/conv2d/0, dw/conv2d/0"),
        (FX, Other, "its 8 quantizers are counted (activation_post_process_0, …)"),
        (SAMPLES / "mct" / "ptq_state_dict.pt", Net, "none of its 6 tensors belongs to a quantizer"),
        (SAMPLES / "torchao-pt2e-qat" / "xnn8_converted_state_dict.pt", Net, "is of a converted graph"),
        (SAMPLES / "neural-compressor" / "static_state_dict.pt", Net, "is of a converted graph"),
        (SAMPLES / "nowhere.pt", Net, "does not exist"),
        (SAMPLES / "inputs.npz", Net, "that torch.save did not write"),
    ],
)
def test_of_another_network_or_without_grids(file: Path, net: type[nn.Module], said: str, tmp_path: Path) -> None:
    _refused(tmp_path, file, said, net())


@pytest.mark.parametrize(
    ("file", "keywords", "said"),
    [
        (MODELOPT, {}, "does not say how many bits conv1.weight_quantizer has: give --bits"),
        (MODELOPT, {"bits": 8}, "does not say whether conv1.input_quantizer has signed codes"),
        (MODELOPT, {"bits": 9}, "bits is 9: give 2 … 8"),
        (SAMPLES / "mct" / "qat_state_dict.pt", {"mapping": MCT}, "which finalize rounds up to"),
        (SAMPLES / "brevitas" / "qat_state_dict.pt", {"bits": 4}, 'say where in [places] of a mapping file, "q_in" ='),
        (
            SAMPLES / "brevitas" / "qat_state_dict.pt",
            {"mapping": {**BREVITAS, "weights": "channel", "bits": 4, "activations": "signed", "unsigned": ["q*"]}},
            None,
        ),
        (
            SAMPLES / "brevitas" / "qat_state_dict.pt",
            {"mapping": {k: v for k, v in BREVITAS.items() if k != "weights"}},
            'has no scale for the weight of conv1, which the library takes from the weights: say weights = "channel"',
        ),
        (AIMET, {"encodings": SAMPLES / "recipe.txt"}, "No such file"),
        (AIMET, {"encodings": SAMPLES / "inputs.npz"}, "cannot be read"),
        (AIMET, {"encodings": SAMPLES / "aimet-torch" / "encodings.encodings"}, "the network has no t.1, 37"),
    ],
)
def test_what_nobody_says(file: Path, keywords: dict[str, Any], said: str | None, tmp_path: Path) -> None:
    if said is None:  # signed activations of Brevitas have another scale: their own, and no error
        read_checkpoint(file, Net(), inputs(), **keywords)
        return
    _refused(tmp_path, file, said, **keywords)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"fc.bias": None}, "lacks fc.bias: it is of another network"),
        ({"head.bias": torch.zeros(3)}, "has head.bias beside: it is of another network"),
        ({"fc.weight": torch.full((10, 8), torch.nan)}, "fc.weight has NaN or infinity"),
        (
            {"fc.weight": torch.zeros(10, 8, dtype=torch.int8)},
            "fc.weight is torch.int8, or packed: give floats",
        ),
        ({"fc.weight_fake_quant.scale": torch.zeros(10)}, "fc.weight_fake_quant has the scale 0, which is no grid"),
        ({"activation_post_process_3.scale": torch.tensor([torch.nan])}, "activation_post_process_3"),
        ({"fc.weight_fake_quant.scale": torch.ones(7)}, "fc.weight_fake_quant has 7 scales and 10 zero points"),
        ({"fc.weight_fake_quant.scale": torch.ones(10) * 1j}, "fc.weight_fake_quant: these tensors are no grid"),
        (
            {"fc.weight": torch.zeros(10, 8).to_sparse()},
            "fc.weight is torch.float32, or packed: give floats",
        ),
    ],
)
def test_damaged_numbers(changed: dict[str, torch.Tensor | None], said: str, tmp_path: Path) -> None:
    _refused(tmp_path, _changed(tmp_path, FX, **changed), said, bits=8, mapping={"activations": "unsigned"})


def test_a_float_checkpoint(tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "net.pt")
    _refused(tmp_path, tmp_path / "net.pt", "it is a float network (lsq-export calibrate takes those)")


def test_pickled_modules_are_not_read(tmp_path: Path) -> None:
    torch.save(Net(), tmp_path / "net.pt")
    _refused(tmp_path, tmp_path / "net.pt", "to read them would run their code")


def test_truncated_files(tmp_path: Path) -> None:
    content = FX.read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 20):
        (tmp_path / "net.pt").write_bytes(content[:size])
        _refused(tmp_path, tmp_path / "net.pt", "is damaged")


def test_quantizers_that_are_switched_off(tmp_path: Path) -> None:
    off = {name: torch.zeros(1, dtype=torch.uint8) for name in torch.load(FX) if name.endswith("fake_quant_enabled")}
    _refused(tmp_path, _changed(tmp_path, FX, **off), "all of its 11 quantizers are switched off")


def test_a_checkpoint_without_a_network(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match=r"holds tensors and no network: give the float network"):
        adopt(FX, tmp_path / "out", calibration=[inputs()])
    with pytest.raises(QuantizationError, match="bits is for checkpoints: give the float network"):
        adopt(SAMPLES / "onnxruntime" / "qdq_u4s4.onnx", tmp_path / "out", calibration=[inputs()], bits=4)
    with pytest.raises(QuantizationError, match="no calibration batches"):
        adopt(FX, tmp_path / "out", model=Net(), calibration=[])


def test_layers_without_a_grid_stay_float(tmp_path: Path) -> None:
    said = {"bits": 8, "mapping": {"activations": "signed", "skip": ["fc.*"]}}
    assert [(left.name, left.why) for left in adopted("ModelOpt, 8 bits", **said).left] == [
        ("fc", "it stays float: no grid for its weight")
    ]
    with pytest.warns(QuantizationWarning, match="not as ModelOpt has it: fc: it stays float: no grid"):
        bundle = adopt(MODELOPT, tmp_path / "out", model=Net(), calibration=[inputs()], **said)
    assert bundle.parity is not None and bundle.parity.ok
    assert any("fc" in island["name"] for island in bundle.manifest["islands"])


def test_grids_of_more_than_8_bits_stay_float(tmp_path: Path) -> None:
    state = torch.load(MODELOPT, weights_only=True)
    torch.save({"model_state_dict": state, "modelopt_state": _state(state, bits=16)}, tmp_path / "net.pt")
    left = read_checkpoint(tmp_path / "net.pt", Net(), inputs()).left
    assert {entry.name for entry in left} == {"fc", "fc.input_quantizer"}
    assert all("65536 codes, integers of 8 bits have 256" in entry.why for entry in left)


def _state(tensors: dict[str, torch.Tensor], bits: int) -> dict[str, Any]:
    names = {name.removesuffix("._amax") for name in tensors if name.endswith("._amax")}
    states = {
        name: {"_num_bits": bits if name.startswith("fc") else 8, "_unsigned": False, "_disabled": False}
        for name in names
    }
    return {"modelopt_state_dict": [("quantize", {"config": {}, "metadata": {"quantizer_state": states}})]}


def test_safetensors_and_wrapped_names(tmp_path: Path) -> None:
    state = {f"module.{name}": tensor for name, tensor in torch.load(MODELOPT, weights_only=True).items()}
    save_file(state, tmp_path / "net.safetensors")
    network = read_checkpoint(tmp_path / "net.safetensors", Net(), inputs(), bits=8, **SIGNED)
    torch.testing.assert_close(network.module(inputs()), adopted("ModelOpt, 8 bits").module(inputs()))
