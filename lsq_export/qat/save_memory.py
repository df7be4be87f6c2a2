"""Training in little memory: the backward pass of a layer makes x̂ again (E1) where it would keep a float copy of it.

    save_memory(model)          # a prepared model; from now on, whatever trains it

A float layer keeps its input x and shares its weight w with the optimizer. A quantized one keeps x̂ and ŵ, which
nothing else needs, while `fake_quantize` keeps x and w. So a layer's tensors that `fake_quantize` made are not saved
for backward, but how to make them: nothing is kept that float training does not keep, too. Values and gradients stay
the same to the bit."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from calib.quantized import Quantized

from .fake_quantize import recipe_of, values

_ON, _OPEN = "_saves_memory", "_memory_contexts"  # attributes of a layer


def save_memory(model: nn.Module, on: bool = True) -> nn.Module:
    """Switch it on or off for every quantized layer of a prepared model;

    returns the model. torch.compile decides for itself what it keeps.
    """
    for layer in model.modules():
        if not isinstance(getattr(layer, "input_quantizer", None), Quantized):
            continue
        if _ON not in layer.__dict__:
            layer.register_forward_pre_hook(_enter)  # runs behind the hook that quantizes the input
            layer.register_forward_hook(_leave, always_call=True)  # also when forward raises
        layer.__dict__[_ON] = on
    return model


def _enter(layer: nn.Module, args: Any) -> None:
    if layer.__dict__[_ON] and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        hooks = torch.autograd.graph.saved_tensors_hooks(_pack, _unpack)
        hooks.__enter__()
        layer.__dict__.setdefault(_OPEN, []).append(hooks)


def _leave(layer: nn.Module, args: Any, output: Any) -> None:
    if layer.__dict__.get(_OPEN):
        layer.__dict__[_OPEN].pop().__exit__()


def _pack(tensor: torch.Tensor) -> Any:
    """How to make a tensor that `fake_quantize` made, or a view of one (Linear keeps its weight transposed);

    any other tensor itself.
    """
    recipe = recipe_of(tensor) or (None if tensor._base is None else recipe_of(tensor._base))
    return tensor if recipe is None else (recipe, tensor.shape, tensor.stride(), tensor.storage_offset())


def _unpack(packed: Any) -> torch.Tensor:
    if isinstance(packed, torch.Tensor):
        return packed
    recipe, *layout = packed
    return values(*recipe).as_strided(*layout)
