"""Weights of converted graphs (torchao, neural-compressor): which layer `_scale_N` and `_frozen_paramN` belong to.

Their numbers say nothing. The layer is the one whose float weights, which the file keeps beside, have these codes; or,
where the file has no codes, the one whose largest weight in every channel is the largest code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from calib.errors import QuantizationError
from lsq_export.qat.layer_types import QUANTIZED_LAYERS

from .layer_values import weight_of
from .learned import Raw
from .parameters import is_plain
from .sites import module_at

NEAR = 0.51  # codes: float32 rounds near ties as it likes
FULL = (0.9, 1.05)  # of 2^(b-1) codes, what the largest weight of a channel has


def layers_of_frozen(
    traced: fx.GraphModule, raws: list[Raw], tensors: Mapping[str, Any], bits: int | None, where: str
) -> dict[str, str]:
    """{a quantizer's name: its layer}. Errors (QuantizationError): none, or several that fit."""
    layers = {
        str(node.target): module
        for node in traced.graph.nodes
        if isinstance(module := module_at(traced, node), QUANTIZED_LAYERS)
    }
    found: dict[str, str] = {}
    for raw in raws:
        fitting = [name for name, layer in layers.items() if _fits(name, layer, raw, tensors, bits)]
        if len(fitting) != 1 or fitting[0] in found.values():
            what = "no layer" if not fitting else f"{', '.join(fitting)} alike"
            raise QuantizationError(
                f"{where}: the scales {', '.join(raw.used[:1])} fit {what}: say whose they are, in [places] of a "
                f'mapping file, "{raw.name}" = "LAYER.weight"'
            )
        found[raw.name] = fitting[0]
    return found


def _fits(name: str, layer: nn.Module, raw: Raw, tensors: Mapping[str, Any], bits: int | None) -> bool:
    weight, codes, scales = tensors.get(f"{name}.weight"), tensors.get(raw.name), tensors.get(raw.used[0])
    given = [weight, scales] if codes is None else [weight, scales, codes]
    if not all(isinstance(tensor, torch.Tensor) and is_plain(tensor) and tensor.numel() for tensor in given):
        return False
    weight, scale = (torch.as_tensor(tensor).double() for tensor in (weight, scales))
    if weight.shape != weight_of(layer).shape or scale.numel() != len(weight):
        return False
    steps = weight.flatten(1) / scale.reshape(-1, 1)
    if codes is not None:
        held = steps.clamp(int(codes.min()), int(codes.max()))
        return codes.shape == weight.shape and bool(((held - codes.double().flatten(1)).abs() <= NEAR).all())
    largest = steps.abs().amax(1) / 2 ** ((bits or 8) - 1)
    return bool(((largest > FULL[0]) & (largest < FULL[1])).all())
