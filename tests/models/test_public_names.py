"""models.public_names: torchvision's names of EfficientNet-B0, each with the shape that it has there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lsq_export import models
from lsq_export.models.public_names import torchvision_names
from lsq_export.training import load_weights

REFERENCE = Path(__file__).parents[1] / "reference"

# kernel, stride, channels in and out of the first block, blocks: torchvision's table of EfficientNet-B0, after
# pytorch/vision torchvision/models/efficientnet.py.
TABLE = (
    (1, 3, 32, 16, 1),
    (6, 3, 16, 24, 2),
    (6, 5, 24, 40, 2),
    (6, 3, 40, 80, 3),
    (6, 5, 80, 112, 3),
    (6, 5, 112, 192, 4),
    (6, 3, 192, 320, 1),
)


def _conv(name: str, *shape: int) -> dict[str, list[int]]:
    """A convolution without bias and its batch norm: Conv2dNormActivation."""
    norm = {f"{name}.1.{tensor}": [shape[0]] for tensor in ("weight", "bias", "running_mean", "running_var")}
    return {f"{name}.0.weight": list(shape), **norm, f"{name}.1.num_batches_tracked": []}


def torchvision_shapes() -> dict[str, list[int]]:
    """The state dict of torchvision's efficientnet_b0, made as its code makes the network, without ours."""
    shapes = _conv("features.0", 32, 3, 3, 3)
    for stage, (expansion, kernel, first, channels, blocks) in enumerate(TABLE, 1):
        for block in range(blocks):
            inputs = first if block == 0 else channels
            hidden, squeezed, at = inputs * expansion, inputs // 4, f"features.{stage}.{block}.block"
            layers = [] if expansion == 1 else [(hidden, inputs, 1, 1)]
            place = len(layers)
            for index, shape in enumerate([*layers, (hidden, 1, kernel, kernel)]):
                shapes |= _conv(f"{at}.{index}", *shape)
            gate = f"{at}.{place + 1}"
            shapes |= {f"{gate}.fc1.weight": [squeezed, hidden, 1, 1], f"{gate}.fc1.bias": [squeezed]}
            shapes |= {f"{gate}.fc2.weight": [hidden, squeezed, 1, 1], f"{gate}.fc2.bias": [hidden]}
            shapes |= _conv(f"{at}.{place + 2}", channels, hidden, 1, 1)
    shapes |= _conv("features.8", 1280, 320, 1, 1)
    return {**shapes, "classifier.1.weight": [1000, 1280], "classifier.1.bias": [1000]}


def test_every_tensor_has_its_place() -> None:
    ours = json.loads((REFERENCE / "efficientnet_b0.json").read_text())
    assert {theirs: ours[own] for theirs, own in torchvision_names(ours).items()} == torchvision_shapes()


@pytest.mark.parametrize("name", ["mixnet_s", "resnet18", "tiny"])
def test_networks_with_the_same_names_or_none_have_no_translation(name: str) -> None:
    assert torchvision_names(models.build(name, num_classes=2).state_dict()) == {}


@pytest.mark.parametrize("wrapped", [False, True])
def test_torchvisions_weights_are_loaded(wrapped: bool) -> None:
    """Each into the layer that it is of: told by numbers that differ from tensor to tensor."""
    ours, theirs = models.build("efficientnet_b0"), torchvision_shapes()
    state = {
        name: torch.full(shape, float(index) if shape else 0.0).to(torch.float32 if shape else torch.int64)
        for index, (name, shape) in enumerate(theirs.items())
    }
    loaded = load_weights(ours, {"model": {f"module.{k}": v for k, v in state.items()}} if wrapped else state)
    assert loaded.naming == "torchvision" and len(loaded.loaded) == len(theirs) and not loaded.left_over
    found, names = ours.state_dict(), torchvision_names(ours.state_dict())
    assert all(torch.equal(found[own], state[name]) for name, own in names.items())
    assert found["blocks.3.2.se.conv_reduce.bias"][0] == list(theirs).index("features.4.2.block.2.fc1.bias")
    assert found["blocks.0.0.conv_pw.weight"].flatten()[0] == list(theirs).index("features.1.0.block.2.0.weight")


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "mixnet_s"])
def test_timms_names_are_ours(name: str) -> None:
    """The names and shapes of timm's checkpoints, as a file that its training writes."""
    shapes = json.loads((REFERENCE / f"{name}.json").read_text())
    state = {key: torch.full(shape, 0.5) if shape else torch.tensor(3) for key, shape in shapes.items()}
    content = {"epoch": 3, "arch": name, "state_dict": state, "state_dict_ema": state, "version": 2}
    loaded = load_weights(models.build(name), content)
    assert (loaded.part, loaded.also_averaged, loaded.kept, loaded.left_over) == ("state_dict", True, (), ())
    assert list(loaded.loaded) == list(shapes)
