"""models: resnet18, efficientnet_b0 and mixnet_s against the public reference (timm 1.0.31).

The two adjustable ones are also built at other sizes.

reference/<model>.json: names and shapes of the state dict; <model>.npz: logits with the weights and the input of
reference/fill.py. With those weights signals shrink from block to block, so that the logits say much about the last
blocks and little about the first: an activation in an early block of EfficientNet moves them by 1e-7. What they cannot
see is tested by name: activations, strides, additions, the constants of batch norms.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from calib.errors import QuantizationError
from lsq_export import models
from lsq_export.models.blocks import MixedConv2d
from lsq_export.models.inverted import round_channels

REFERENCE = Path(__file__).parents[1] / "reference"
ADJUSTABLE = ("efficientnet_b0", "mixnet_s")
NAMES = ("resnet18", *ADJUSTABLE)
# Of the largest logit. Float32 sums in another order: 0 to 5e-7 measured, with one and two threads, with and without
# oneDNN, and in float64.
TOLERANCE = 3e-6


def _fill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_fill", REFERENCE / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILL = _fill()


def shapes(name: str) -> dict[str, list[int]]:
    """Names and shapes of the public checkpoint, in its order."""
    return json.loads((REFERENCE / f"{name}.json").read_text())


@cache
def _filled(name: str) -> nn.Module:
    model = models.build(name).eval()
    model.load_state_dict(
        {key: torch.from_numpy(FILL.tensor(key, tuple(shape))) for key, shape in shapes(name).items()}, strict=True
    )
    return model


def filled(name: str) -> nn.Module:
    """A network with the reference's weights, loaded by the reference's names."""
    return copy.deepcopy(_filled(name))


def error(name: str, model: nn.Module) -> float:
    """Largest difference from the reference's logits, as a fraction of the largest one."""
    with torch.no_grad():
        logits = model(torch.from_numpy(FILL.image())).numpy()  # [1, 1000]
    wanted = np.load(REFERENCE / f"{name}.npz", allow_pickle=False)["logits"]
    assert logits.shape == wanted.shape
    return float(np.abs(logits - wanted).max() / np.abs(wanted).max())


def of_kind(model: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, kind)]


@pytest.mark.parametrize("name", NAMES)
def test_public_names_and_shapes_in_order(name: str) -> None:
    state = models.build(name).state_dict()
    assert [(key, list(tensor.shape)) for key, tensor in state.items()] == list(shapes(name).items())


@pytest.mark.parametrize("name", NAMES)
def test_reference_logits(name: str) -> None:
    assert error(name, filled(name)) < TOLERANCE


def swap(kind: type[nn.Module], index: int, new: Callable[[], nn.Module]) -> Callable[[nn.Module], None]:
    """Put `new()` in the place of the index-th module of a kind."""
    return lambda model: model.set_submodule(of_kind(model, kind)[index], new())


def coarse_eps(model: nn.Module) -> None:
    """TensorFlow's constant instead of PyTorch's 1e-5."""
    for name in of_kind(model, nn.BatchNorm2d):
        model.get_submodule(name).eps = 1e-3


def no_skip(model: nn.Module) -> None:
    """One addition is left out."""
    next(m for m in model.modules() if getattr(m, "has_skip", False)).has_skip = False


def other_order(model: nn.Module) -> None:
    """The kernels of a mixed 1x1 convolution change places."""
    mixed = next(m for m in model.modules() if isinstance(m, MixedConv2d))
    mixed[0], mixed[1] = mixed[1], mixed[0]


def one_sided_padding(model: nn.Module) -> None:
    """TensorFlow's "same" padding at stride 2: nothing on the left and on top."""
    stem = model.get_submodule("conv_stem")
    assert isinstance(stem, nn.Conv2d)
    stem.padding = (0, 0)
    model.set_submodule("conv_stem", nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), stem))


SABOTAGE = [
    ("resnet18", swap(nn.ReLU, 3, nn.SiLU)),
    ("efficientnet_b0", swap(nn.SiLU, -1, nn.ReLU)),  # in the head
    ("efficientnet_b0", swap(nn.SiLU, -2, nn.ReLU)),  # in squeeze-and-excitation
    ("efficientnet_b0", swap(nn.SiLU, -4, nn.Hardswish)),
    ("efficientnet_b0", swap(nn.Sigmoid, -1, nn.Hardsigmoid)),
    ("efficientnet_b0", no_skip),
    ("efficientnet_b0", coarse_eps),
    ("mixnet_s", swap(nn.ReLU, 0, nn.SiLU)),  # in the stem
    ("mixnet_s", swap(nn.ReLU, 3, nn.SiLU)),  # in the second stage
    ("mixnet_s", swap(nn.ReLU, -1, nn.SiLU)),  # in the head
    ("mixnet_s", swap(nn.SiLU, 0, nn.ReLU)),
    ("mixnet_s", swap(nn.Sigmoid, -1, nn.Hardsigmoid)),
    ("mixnet_s", no_skip),
    ("mixnet_s", coarse_eps),
    ("mixnet_s", other_order),
    ("mixnet_s", one_sided_padding),
]


@pytest.mark.parametrize("name,change", SABOTAGE)
def test_a_changed_network_misses_the_reference_logits(name: str, change: Callable[[nn.Module], None]) -> None:
    model = filled(name)
    change(model)
    assert error(name, model) > 3 * TOLERANCE


def test_activations_are_modules_of_their_own() -> None:
    """EfficientNet: SiLU everywhere.

    MixNet: ReLU in the stem, in the first two stages and in the head. Each is used once, and never in place.
    """
    net, mix = models.build("efficientnet_b0"), models.build("mixnet_s")
    assert (
        len(of_kind(net, nn.SiLU)) == 2 + 1 + 2 * 15 + 16
        and len(of_kind(net, nn.Sigmoid)) == 16
        and not of_kind(net, nn.ReLU)
    )
    relu = [
        "act1",
        *(f"blocks.{block}" for block in ("0.0.act1", "1.0.act1", "1.0.act2", "1.1.act1", "1.1.act2")),
        "act2",
    ]
    assert (
        of_kind(mix, nn.ReLU) == relu and len(of_kind(mix, nn.SiLU)) == 3 * 13 and len(of_kind(mix, nn.Sigmoid)) == 13
    )
    for model in (net, mix):
        used = []
        acts = [
            m for _, m in model.named_modules(remove_duplicate=False) if isinstance(m, (nn.SiLU, nn.ReLU, nn.Sigmoid))
        ]
        for act in acts:
            act.register_forward_hook(lambda module, args, output, used=used: used.append(module))
        model.eval()(torch.zeros(1, 3, 32, 32))
        assert len(used) == len(set(used)) == len(acts) and not any(getattr(m, "inplace", False) for m in acts)


@pytest.mark.parametrize("name", ADJUSTABLE)
def test_strides_additions_and_constants(name: str) -> None:
    model = models.build(name).eval()
    blocks = [module for module in model.modules() if hasattr(module, "has_skip")]
    layout = {"efficientnet_b0": (1, 2, 2, 3, 3, 4, 1), "mixnet_s": (1, 2, 4, 3, 3, 3)}[name]
    assert [len(stage) for stage in model.get_submodule("blocks").children()] == list(layout)
    # the first block of a stage adds nothing, but for the first of MixNet, which keeps its 16 channels
    wanted = [j > 0 or (name == "mixnet_s" and i == 0) for i, count in enumerate(layout) for j in range(count)]
    assert [block.has_skip for block in blocks] == wanted
    assert {(m.eps, m.momentum) for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {(1e-5, 0.1)}
    sizes = []
    x = torch.zeros(1, 3, 64, 64)
    for stage in (model.get_submodule("conv_stem"), *model.get_submodule("blocks").children()):
        x = stage(x)
        sizes.append(x.shape[-1])
    assert sizes == {"efficientnet_b0": [32, 32, 16, 8, 4, 4, 2, 2], "mixnet_s": [32, 32, 16, 8, 4, 4, 2]}[name]


@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize("width", [0.25, 0.55])  # at 0.55 kernels get unequal numbers of channels
@pytest.mark.parametrize("name", ADJUSTABLE)
def test_small_images(name: str, width: float, stem_stride: int) -> None:
    model = models.build(name, num_classes=7, in_channels=1, width=width, stem_stride=stem_stride)
    state = model.state_dict()
    assert list(state) == list(shapes(name))  # the names do not depend on the keywords
    for size in (32, 8):
        sizes = []
        hook = model.get_submodule("conv_head").register_forward_hook(
            lambda module, args, output, sizes=sizes: sizes.append(output.shape[-1])
        )
        logits = model.train()(torch.randn(4, 1, size, size))
        logits.square().sum().backward()
        assert logits.shape == (4, 7) and sizes == [max(1, size // (16 * stem_stride))]
        assert model.eval()(torch.randn(1, 1, size, size)).isfinite().all()
        hook.remove()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ADJUSTABLE)
def test_width_keeps_multiples_of_8(name: str) -> None:
    model = models.build(name, num_classes=10, width=0.3)
    for stage in model.get_submodule("blocks").children():
        *_, last = (m for m in stage.modules() if isinstance(m, nn.BatchNorm2d))
        assert last.num_features % 8 == 0
    small, full = (
        sum(p.numel() for p in models.build(name, num_classes=10, **kw).parameters()) for kw in ({"width": 0.3}, {})
    )
    assert small < 0.15 * full


@pytest.mark.parametrize(
    "channels,rounded",
    [(1, 8), (11.9, 16), (12, 16), (16, 16), (19.2, 24), (20, 24), (27.9, 32), (35.2, 32), (84, 88), (1280, 1280)],
)
def test_round_channels(channels: float, rounded: int) -> None:
    assert round_channels(channels) == rounded and rounded >= 0.9 * channels


def test_uneven_split_gives_the_first_kernel_the_rest() -> None:
    mixed = MixedConv2d(11, 11, (3, 5, 7), stride=2, depthwise=True)
    assert [conv.weight.shape[0] for conv in mixed] == [5, 3, 3]
    x = torch.randn(2, 11, 9, 9)
    y = mixed(x)
    assert y.shape == (2, 11, 5, 5)
    assert torch.equal(y[:, 8:], mixed[2](x[:, 8:]))


@pytest.mark.parametrize(
    "keyword,value,message",
    [("width", 0.0, "width is 0.0"), ("width", math.nan, "width is nan"), ("stem_stride", 3, "stem_stride is 3")],
)
@pytest.mark.parametrize("name", ADJUSTABLE)
def test_a_bad_keyword_is_one_line(name: str, keyword: str, value: float, message: str) -> None:
    with pytest.raises(QuantizationError, match=message) as caught:
        models.build(name, num_classes=10, **{keyword: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ADJUSTABLE)
def test_fresh_weights(name: str) -> None:
    """Convolutions normal with variance 2 / fan-out, of one group; the linear layer uniform; biases 0."""
    torch.manual_seed(0)
    model = models.build(name)
    for conv in (m for m in model.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 4000):
        fan_out = math.prod(conv.kernel_size) * (1 if conv.groups > 1 else conv.out_channels)
        # Of 4000 numbers: 1 % off, five times that.
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.06)
    assert all(
        (m.bias == 0).all() for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and m.bias is not None
    )
    bound = model.get_submodule("classifier").weight.abs().max().item()
    assert bound == pytest.approx(1 / math.sqrt({"efficientnet_b0": 1280, "mixnet_s": 1536}[name]), rel=1e-3)


@pytest.mark.parametrize("name", ADJUSTABLE)
def test_forward_is_traceable_with_a_dynamic_batch(name: str) -> None:
    model = models.build(name, num_classes=5, width=0.25, stem_stride=1).eval()
    program = torch.export.export(model, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    x = torch.randn(5, 3, 8, 8)
    assert torch.equal(program.module()(x), model(x))
