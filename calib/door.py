"""Models that a user gives: what cannot be one, or cannot be worked with, is said in one line."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from .errors import QuantizationError
from .quantized import Quantized

REDUCED = (torch.float16, torch.bfloat16)


def unwrapped(model: Any) -> Any:
    """The network inside of DataParallel, DistributedDataParallel, torch.compile and AveragedModel (of its averages);
    anything else as it is.
    """
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)):
            model = model.module
        elif isinstance(model, nn.Module) and "_orig_mod" in model._modules:
            model = model._orig_mod
        else:
            return model


def check_model(model: object, where: str = "model") -> None:
    """Errors (QuantizationError): something else than a PyTorch model. where: the argument."""
    if isinstance(model, torch.jit.ScriptModule):
        raise QuantizationError(f"{where} is a TorchScript module, whose layers are fixed: give the nn.Module itself")
    if isinstance(model, nn.Module):
        return
    if inspect.isclass(model):
        raise QuantizationError(f"{where} is the class {model.__name__}: give an instance, {model.__name__}(…)")
    if isinstance(model, (str, os.PathLike)):
        raise QuantizationError(
            f"{where} is the path {os.fspath(model)}: give the nn.Module; lsq_export.training.checkpoint.restore(path) "
            "reads one that lsq-export train wrote"
        )
    if isinstance(model, Mapping):
        raise QuantizationError(
            f"{where} is a {type(model).__name__}, as of state_dict(): build the network, and load it with "
            "net.load_state_dict(…)"
        )
    raise QuantizationError(f"{where} is a {type(model).__name__}: give a torch.nn.Module")


def check_type(model: nn.Module) -> None:
    """Errors (QuantizationError): 16-bit parameters, or such without values."""
    for name, parameter in model.named_parameters():
        if parameter.dtype in REDUCED:
            kind = str(parameter.dtype).removeprefix("torch.")
            raise QuantizationError(
                f"the model is {kind} ({name}): use float32, model.float(); torch.autocast trains in {kind}"
            )
        if parameter.is_meta:
            raise QuantizationError(f"{name} is on the meta device and has no values: load the model's weights first")


def check_values(model: nn.Module) -> None:
    """Errors (QuantizationError): a weight or a statistic with NaN or infinity, by name. Grids are not looked at.

    The user's own buffers may hold infinities: masks do.
    """
    check_type(model)
    for name, tensor, mask in _tensors(model):
        wrong = torch.isnan if mask else _not_finite
        bad = int(wrong(tensor).sum()) if tensor.is_floating_point() else 0
        if bad:
            raise QuantizationError(
                f"{name}: values are not finite (NaN or infinity in {bad} of {tensor.numel()}); load or train the "
                "model again"
            )


def _not_finite(tensor: torch.Tensor) -> torch.Tensor:
    return ~torch.isfinite(tensor)


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor, bool]]:
    """(name before `prepare`, tensor, whether it may be a mask) of parameters and buffers of all layers."""
    for prefix, module in model.named_modules():
        if isinstance(module, Quantized):
            continue
        buffers = dict(module.named_buffers(recurse=False))
        statistics = isinstance(module, nn.modules.batchnorm._NormBase)
        for name, tensor in (*module.named_parameters(recurse=False), *buffers.items()):
            full = f"{prefix}.{name}" if prefix else name
            mask = name in buffers and not statistics
            yield full.replace("parametrizations.", "").removesuffix(".original"), tensor.detach(), mask


@contextmanager
def batched(model: nn.Module) -> Iterator[None]:
    """Inside this block a convolution that gets an image without a batch dimension is an error.

    torch computes that, and the network then takes channels for samples.
    """

    def check(layer: nn.Module, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], torch.Tensor) and args[0].dim() == 3:
            raise QuantizationError(
                f"{names[layer]} gets an input of shape {list(args[0].shape)}, without the batch dimension: give "
                "batches [N, C, H, W], such as those of DataLoader(dataset, batch_size=64); [images] is one batch"
            )

    names: dict[nn.Module, str] = {
        module: name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)
    }
    hooks = [layer.register_forward_pre_hook(check) for layer in names]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
