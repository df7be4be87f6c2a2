"""The network itself, in float32, out of whatever a user has around it."""

from __future__ import annotations

import copy

import torch
from torch import nn

from calib.door import REDUCED, unwrapped
from calib.errors import warn


def without_wrappers(model: nn.Module) -> nn.Module:
    """The network without DataParallel, DistributedDataParallel and torch.compile, around it or inside of it.

    The model itself is untouched: with a wrapper inside of it, a copy is changed.
    """
    model = unwrapped(model)
    if any(unwrapped(module) is not module for module in model.modules()):
        model = copied(model)
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if unwrapped(child) is not child:
                    parent._modules[name] = unwrapped(child)
    return model


def in_float32(model: nn.Module) -> nn.Module:
    """A copy in float32 where parameters or buffers have 16 bits, with a warning; else the model itself.

    In 16 bits a step of training would be lost beside a weight, and grids could not be told apart. A model of float64
    stays what it is, and a warning says that export will not take it.
    """
    tensors = (*model.named_parameters(), *model.named_buffers())
    if wide := next((name for name, tensor in tensors if tensor.dtype == torch.float64), None):
        warn(
            f"the model is float64 ({wide}): it can be trained so, and what is exported computes in float32: take "
            "model.float(), now or before export",
        )
    first = next(((name, tensor.dtype) for name, tensor in tensors if tensor.dtype in REDUCED), None)
    if first is None:
        return model
    name, dtype = first
    kind = str(dtype).removeprefix("torch.")
    warn(
        f"the model is {kind} ({name}): the prepared copy computes in float32, and takes float32; torch.autocast "
        f"trains it in {kind}",
    )

    def converted(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.float() if tensor.dtype in REDUCED else tensor

    converted_model: nn.Module = copied(model)._apply(converted)  # type: ignore[no-untyped-call]
    return converted_model


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, also of a model whose hooks have made weights, which torch refuses to copy."""
    made = [
        (module.__dict__, name, value)
        for module in model.modules()
        for name, value in module.__dict__.items()
        if isinstance(value, torch.Tensor) and value.grad_fn is not None
    ]
    try:
        for attributes, name, value in made:
            attributes[name] = value.detach()
        return copy.deepcopy(model)
    finally:
        for attributes, name, value in made:
            attributes[name] = value
