"""A network by its name or checkpoint -> what `bench` compares: torch's float export, our formats, and the peers.

A network need not be trained to be timed: latency depends on its shapes. A network by name gets random weights, batch
norms with the statistics of random images, and quantizers initialized on those. It is folded and written as `export`
does it, without the verification.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import calib
from calib.errors import QuantizationError
from lsq_export.bundle.layout import LOOKUP
from lsq_export.graph.capture import capture, forward
from lsq_export.models import build
from lsq_export.qat.bit_widths import widths_of
from lsq_export.qat.prepare_model import QATConfig, prepare
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import fold
from lsq_export.targets import get
from lsq_export.training.checkpoint import restore

from .float_model import exported_float_model
from .openvino import openvino_models
from .peer import FORMATS, peer_models
from .sessions import Source
from .sources import EXPORTED, FLOAT, Subject, with_stock

IMAGES, SEED = 8, 0
SIZE = 224  # pixels, for a network by name
INITIALIZED = "float checkpoint: quantizers initialized on random images"
RANDOM = "random weights, batch norms and quantizers initialized on random images: for timing only"


@dataclass(frozen=True, kw_only=True)
class Network:
    """A prepared model with grids.

    title: of the measurement. x: float32 [IMAGES, C, H, W], what grids are calibrated on. notes: as in Subject.
    """

    title: str
    model: nn.Module
    x: torch.Tensor
    notes: tuple[str, ...]


def named_network(name: str, size: int | None = None, **config: Any) -> Network:
    """A network of `lsq_export.models.build` with random weights, for images of size × size pixels.

    config: fields of QATConfig. Errors (QuantizationError): an unknown model, one that cannot be quantized or does not
    take such images.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = build(name)
        x = torch.randn(IMAGES, 3, size or SIZE, size or SIZE)
        randomize_batch_norms(model, x)
    qat = QATConfig(**config)
    return Network(title=title_of(name, qat, x), model=_initialized(model, qat, x), x=x, notes=(RANDOM,))


def network_of_checkpoint(path: Path, size: int | None = None, *, model: str | None = None, **asked: Any) -> Network:
    """The network of a checkpoint.

    size: None is that of its images. model: as in `restore`. asked: fields of QATConfig for a float checkpoint; a
    low-bit one has its own.
    Errors (QuantizationError): as `restore`; a configuration for a low-bit checkpoint; a network that cannot be
    quantized or takes no such images.
    """
    net, checkpoint = restore(path, model=model)
    channels, height, width = checkpoint.image_shape
    x = torch.randn(IMAGES, channels, size or height, size or width, generator=torch.Generator().manual_seed(SEED))
    config = QATConfig.from_dict(dict(asked) if checkpoint.config is None else checkpoint.config)
    title = title_of(str(path), config, x)
    if checkpoint.config is not None:
        if asked:
            options = ", ".join(f"--{key.replace('_', '-')}" for key in asked)
            raise QuantizationError(
                f"checkpoint {path} has widths and offsets of its own ({_short(config)}): leave out {options}"
            )
        return Network(title=title, model=net, x=x, notes=())
    return Network(title=title, model=_initialized(net, config, x), x=x, notes=(INITIALIZED,))


def title_of(name: str, config: QATConfig, x: torch.Tensor) -> str:
    """Such as: resnet18 W4A4, container offsets, 3×224×224."""
    return f"{name} {_short(config)}, {'×'.join(map(str, x.shape[1:]))}"


def _short(config: QATConfig) -> str:
    return f"{widths_of(config.to_dict())}, {config.offset} offsets"


def subject_of_network(
    network: Network,
    *,
    peer: bool = True,
    openvino: bool = True,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Subject:
    """The float form as torch exports it, our formats for ort-cpu, and ONNX Runtime's quantization of that float form.

    openvino: with what OpenVINO makes of these, or a note that it is not installed. on_stage(name): called as each
    stage begins. Errors (QuantizationError): as `export` without verification, and as `peer_models`.
    """
    on_stage("float")
    float_model = exported_float_model(network.model, network.x)
    target = get("ort-cpu")
    on_stage("capture")
    captured = capture(network.model, network.x[:1])
    on_stage("fold")
    folded = fold(captured, [network.x], target.folds[0])
    on_stage("rewrite")
    files = emit_all(folded, (*FORMATS, LOOKUP), target)
    ours = with_stock({name: proto.SerializeToString() for name, proto in files.items()})
    models: dict[str, Source] = {FLOAT: float_model, **ours}
    notes = network.notes
    if peer:
        on_stage("quantize_static")
        theirs, more = peer_models(float_model, network.x.numpy())
        models |= theirs
        notes += more
    if openvino:
        on_stage("openvino")
        theirs, more = openvino_models(models)
        models |= theirs
        notes += more
    return Subject(network.title, models, EXPORTED, notes)


@torch.no_grad()
def randomize_batch_norms(model: nn.Module, x: torch.Tensor) -> None:
    """Draw γ uniformly from 0.5 … 1.5 and β from a normal distribution (σ = 0.3); take statistics from the images x.

    The model is in eval mode afterwards.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0.0, 0.3)
        norm.momentum = None  # the average of all batches, of which there is one
        norm.reset_running_stats()
    forward(model, x)  # a model that does not take x gives one line here; below, torch's own error would come through
    model.train()
    model(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def _initialized(model: nn.Module, config: QATConfig, x: torch.Tensor) -> nn.Module:
    prepared = prepare(model.eval(), config)
    calib.initialize(prepared, [x], method="mse")
    return prepared
