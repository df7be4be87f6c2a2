"""training.weights: what load_weights takes, converts, leaves and refuses; a refusal leaves the network as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import lsq_export
from calib.errors import QuantizationError
from lsq_export import models
from lsq_export.training import checkpoint, load_weights


def tiny(seed: int = 1, classes: int = 4, channels: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return models.build("tiny", num_classes=classes, in_channels=channels).eval()


def trained() -> dict[str, torch.Tensor]:
    return tiny(seed=0).state_dict()


def equal(net: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def refused(content: Any, net: nn.Module | None = None, **options: Any) -> str:
    net = net or tiny()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(QuantizationError) as caught:
        load_weights(net, content, **options)
    assert equal(net, before) and "\n" not in str(caught.value)
    return str(caught.value)


def _plain(path: Path) -> None:
    torch.save(trained(), path)


def _parallel(path: Path) -> None:
    torch.save({"state_dict": {f"module.{name}": value for name, value in trained().items()}, "epoch": 9}, path)


def _safetensors(path: Path) -> None:
    save_file(trained(), path)


def _ours(path: Path) -> None:
    spec = {"name": "tiny", "num_classes": 4}
    checkpoint.save(path, tiny(seed=0), model_spec=spec, config=None, input_shape=(3, 16, 16), preprocessing={})


@pytest.mark.parametrize("write", [_plain, _parallel, _safetensors, _ours])
def test_files(write: Any, tmp_path: Path) -> None:
    net, path = tiny(), tmp_path / "net.pth"
    write(path)
    loaded = load_weights(net, path)
    assert equal(net, trained()) and set(loaded.loaded) == set(trained()) and not loaded.kept
    assert str(loaded).startswith(f"weights of checkpoint {path}: 39 tensors") and "\n" not in str(loaded)
    assert equal(net, trained()) and load_weights(tiny(), str(path)) == loaded


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_converted_and_said(kind: torch.dtype) -> None:
    state = {name: value.to(kind) if value.is_floating_point() else value for name, value in trained().items()}
    net = tiny()
    loaded = load_weights(net, state)
    name = str(kind).removeprefix("torch.")
    assert loaded.converted == {name: 33} and f"converted from {name} (33)" in str(loaded)
    assert equal(net, {key: value.float() if value.is_floating_point() else value for key, value in state.items()})


def test_counters_of_batch_norms_may_be_missing() -> None:
    state = {name: value for name, value in trained().items() if not name.endswith("num_batches_tracked")}
    loaded = load_weights(tiny(), state)
    assert len(loaded.kept) == 6 and "drawn" not in str(loaded)


def test_what_is_left_over_of_other_layers_is_named() -> None:
    loaded = load_weights(tiny(), {**trained(), "conv1.total_ops": torch.zeros(1), "aux.weight": torch.zeros(3)})
    assert loaded.left_over == ("conv1.total_ops", "aux.weight")
    assert "left over: 'conv1.total_ops', 'aux.weight'" in str(loaded)


def test_tensors_that_are_one_in_the_network_are_one_in_the_file() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

    net, weight = Tied(), torch.arange(9.0).reshape(3, 3)
    load_weights(net, {"b.weight": weight})
    assert torch.equal(net.a.weight, weight)
    assert "lacks 'a.weight'" in refused(
        {"b.weight": weight}, nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    )


def test_a_new_head_keeps_what_was_drawn() -> None:
    net, before = tiny(classes=7), tiny(classes=7).state_dict()
    loaded = load_weights(net, trained(), new_head=True)
    expected = {**trained(), **{name: before[name] for name in ("fc.weight", "fc.bias")}}
    assert equal(net, expected) and loaded.kept == ("fc.weight", "fc.bias")
    assert "as freshly drawn: 'fc.weight', 'fc.bias'" in str(loaded)
    same = tiny()
    load_weights(same, trained(), new_head=True)  # other classes that are as many
    assert torch.equal(same.get_parameter("fc.bias"), tiny().get_parameter("fc.bias"))
    bare = {name: value for name, value in trained().items() if not name.startswith("fc.")}
    assert load_weights(tiny(), bare, new_head=True).kept == ("fc.weight", "fc.bias")


def test_a_head_that_is_not_registered_last_is_found_by_its_shape() -> None:
    def net(classes: int) -> nn.Module:
        return nn.ModuleDict({"head": nn.Linear(8, classes), "body": nn.Conv2d(3, 8, 1)})

    assert load_weights(net(5), net(3).state_dict(), new_head=True).kept == ("head.weight", "head.bias")


def _changed(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    state = {**trained(), **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in state.items() if value is not None}


NAN, INF = torch.full((16,), float("nan")), torch.full((16,), float("inf"))
REFUSED: dict[str, tuple[Any, str]] = {
    "a layer is missing": (_changed(conv2__weight=None), "lacks 'conv2.weight' of the network's 33 tensors"),
    "no head": (_changed(fc__weight=None, fc__bias=None), "new_head (--new-head)"),
    "other classes": (tiny(classes=9).state_dict(), "the file has 9 classes and this network 4: new_head (--new-head)"),
    "other channels": (tiny(channels=1).state_dict(), "takes 1 input channels and this one 3"),
    "another kernel": (_changed(conv2__weight=torch.zeros(16, 16, 5, 5)), "the kernels have another size"),
    "another width": (_changed(conv2__weight=torch.zeros(8, 16, 3, 3)), "[8, 16, 3, 3], the network's [16, 16, 3, 3]"),
    "another bias": (
        _changed(conv1__bias=torch.zeros(16)),
        "has 'conv1.bias', which this layer of the network has not",
    ),
    "NaN": (_changed(bn1__weight=NAN, bn2__bias=INF), "NaN or infinity in 'bn1.weight', 'bn2.bias'"),
    "too large": (_changed(bn1__weight=INF.double().fill_(1e60)), "NaN or infinity in 'bn1.weight'"),
    "integers": (_changed(conv1__weight=torch.zeros(16, 3, 3, 3, dtype=torch.int8)), "'conv1.weight' is int8"),
    "float8": (_changed(bn1__weight=torch.ones(16).to(torch.float8_e4m3fn)), "'bn1.weight' is float8_e4m3fn"),
    "another network": (nn.Linear(2, 2).state_dict(), "none of the network's"),
    "another type": (3, "weights are int: give the name of a file, or a state_dict"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_named_and_changes_nothing(kind: str) -> None:
    content, says = REFUSED[kind]
    assert says in refused(content)


def test_networks_that_cannot_take_weights() -> None:
    assert "has quantizers already" in refused(trained(), lsq_export.prepare(tiny()))
    lazy = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(QuantizationError, match="has no shape yet: run the network on one input"):
        load_weights(lazy, {"0.weight": torch.zeros(3, 2)})


def test_a_low_bit_checkpoint_of_ours_is_refused(tmp_path: Path) -> None:
    path, config = tmp_path / "q.safetensors", lsq_export.QATConfig()
    spec = {"name": "tiny", "num_classes": 4}
    model = lsq_export.prepare(tiny(), config)
    checkpoint.save(path, model, model_spec=spec, config=config.to_dict(), input_shape=(3, 16, 16), preprocessing={})
    assert "is of a low-bit model" in refused(path)
