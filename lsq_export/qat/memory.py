"""Training in little memory: backward makes x̂ (E1) again, instead of keeping a float copy of it.

    save_memory(model)          # a prepared model; from now on, whatever trains it

A float layer keeps its input x and shares its weight w with the optimizer. A quantized one keeps x̂ and ŵ, which
nothing else needs, while `fake_quantize` keeps x and w. So what is saved for backward of a layer's tensors that
`fake_quantize` made is not the tensor, but how to make it: nothing is kept that float training does not keep, too.
Values and gradients stay the same to the bit.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from calib.quantized import Quantized

from .fake_quantize import recipe_of
from .kernels import values


def save_memory(model: nn.Module, on: bool = True) -> nn.Module:
    """Switch it on or off for every quantized layer of a prepared model; returns the model.

    torch.compile decides for itself what it keeps.
    """
    for layer in model.modules():
        if isinstance(getattr(layer, "input_quantizer", None), Quantized):
            if isinstance(layer.forward, _SavingForward):
                layer.forward.on = on
            elif on:
                layer.forward = _SavingForward(layer.forward)
    return model


class _SavingForward:
    """The forward of a layer; while `on`, autograd saves recipes for it where it can."""

    def __init__(self, forward: Any) -> None:
        self.forward, self.on = forward, True
        functools.update_wrapper(self, forward)  # the signature, for whoever inspects the layer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.on or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.forward(*args, **kwargs)
        with torch.autograd.graph.saved_tensors_hooks(_pack, _unpack):
            return self.forward(*args, **kwargs)


def _pack(tensor: torch.Tensor) -> Any:
    """How to make a tensor that `fake_quantize` made, or a view of one; any other tensor itself.

    Linear, for instance, keeps its weight transposed.
    """
    recipe = recipe_of(tensor) or (None if tensor._base is None else recipe_of(tensor._base))
    return tensor if recipe is None else (recipe, tensor.shape, tensor.stride(), tensor.storage_offset())


def _unpack(packed: Any) -> torch.Tensor:
    if isinstance(packed, torch.Tensor):
        return packed
    recipe, *layout = packed
    return values(*recipe).as_strided(*layout)
