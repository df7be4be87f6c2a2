"""A small exported network, and what tests need around it."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import nn

import calib
import lsq_export
from lsq_export import models
from lsq_export.bundle.directory import FOLDED
from lsq_export.training import checkpoint
from support.published import published

SHAPE, CLASSES = (1, 16, 16), 5


@dataclass(frozen=True)
class Exported:
    """A prepared `tiny` network, what it was calibrated and verified on, its bundle and its checkpoint.

    data: an npz file with those images as both splits.
    """

    model: nn.Module
    batches: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    bundle: lsq_export.Bundle
    checkpoint: Path
    data: str

    @property
    def inputs(self) -> np.ndarray:
        """All images, [N, 1, 16, 16]."""
        return torch.cat([x for x, _ in self.batches]).numpy()

    def file(self, name: str) -> onnx.ModelProto:
        """The model of a format, fresh from the disk."""
        return onnx.load(self.bundle.models[name])

    def graph(self, path: Path = FOLDED) -> ir.Model:
        """The folded (or, with TRAINED, the captured) graph."""
        return ir.from_proto(onnx.load(self.bundle.directory / path))

    def copy(self, directory: Path) -> lsq_export.Bundle:
        """A bundle of one's own, to damage."""
        shutil.copytree(self.bundle.directory, directory / "bundle")
        return lsq_export.open_bundle(directory / "bundle")


def prepared(seed: int, bits: int = 4) -> nn.Module:
    """`tiny` with grids, a network of one's own.

    Its batch norms are as after training (γ of both signs). Every learned offset lies between two multiples of its
    scale, and is the smaller the more levels there are, so that real zero stays on every grid.
    """
    return copy.deepcopy(_prepared(seed, bits))


@cache
def _prepared(seed: int, bits: int) -> nn.Module:
    torch.manual_seed(seed)
    net = models.build("tiny", num_classes=CLASSES, in_channels=SHAPE[0])
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for tensor, low, high in (
                    (layer.weight, 0.5, 1.5),
                    (layer.bias, -0.3, 0.5),
                    (layer.running_mean, -0.2, 0.2),
                    (layer.running_var, 0.5, 1.5),
                ):
                    tensor.uniform_(low, high)
                layer.weight[::5] *= -1
    model = lsq_export.prepare(net.eval(), published(weight_bits=bits, activation_bits=bits))
    calib.initialize(model, [images(seed)[0]], method="mse")
    with torch.no_grad():
        for quantizer in lsq_export.quantizers(model).values():
            if quantizer.kind == "activation" and quantizer.bits < 8:
                quantizer.offset.copy_(-0.3137 * quantizer.scale)
    return model


def images(seed: int, count: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """(x, classes): of both signs, beyond the clipping range."""
    generator = torch.Generator().manual_seed(seed)
    x = 1.5 * torch.randn((count, *SHAPE), generator=generator)
    return x, torch.arange(count) % CLASSES


def save(model: nn.Module, path: Path, data: str, name: str = "tiny") -> Path:
    """A checkpoint, as `lsq-export train` writes it."""
    spec = {"name": name, "num_classes": CLASSES, "in_channels": SHAPE[0]} if name == "tiny" else {"name": name}
    bits = lsq_export.quantizers(model)
    inner = next((q.bits for q in list(bits.values())[2:-2]), 4)
    config = published(weight_bits=inner, activation_bits=inner)
    return checkpoint.save(
        path,
        model,
        model_spec=spec,
        config=config.to_dict(),
        input_shape=SHAPE,
        preprocessing={"data": "npz"},
        extra={"data": data},
    )


def content(directory: Path) -> dict[str, bytes]:
    """{path: bytes} of every file under a directory; an empty directory has an entry, too."""
    found = {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    return found | {
        str(p.relative_to(directory)): b"" for p in directory.rglob("*") if p.is_dir() and not any(p.iterdir())
    }
