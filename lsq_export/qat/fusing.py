"""Fused kernels for the quantizers of a model."""

from __future__ import annotations

from torch import nn

from . import kernels
from .quantizer import Quantizer


def fuse(model: nn.Module, on: bool = True) -> nn.Module:
    """Have the quantizers of a prepared model use fused kernels, or with on=False no longer; returns the model.

    Values, and gradients of activations and weights, stay the same to the bit; the sums for scales and offsets are
    added in another order. A model under torch.compile compiles its own kernels, whatever is set here.

    Errors (QuantizationError): there is no working compiler.
    """
    if on:
        kernels.fused_kernels()
    for quantizer in model.modules():
        if isinstance(quantizer, Quantizer):
            quantizer.kernels = kernels.Kernels.FUSED if on else kernels.Kernels.BLOCKS
    return model
