"""First grids of a prepared model, from its weights and from calibration batches.

    calib.initialize(model, batches, method="mse")

The model runs on the batches in float; each quantizer then gets its grid by one of the rules of
`calib.initialization.rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, get_args

import torch
from torch import nn

from calib.batches import CALIBRATION, InputKey, inputs, refusal, varying
from calib.door import batched, check_model, check_values
from calib.errors import QuantizationError
from calib.quantized import Quantized, bypassed, quantized_modules
from calib.statistics.observers import Observer
from calib.workers import workers

from .rules import Method, WeightMethod, activation_grid, weight_scale

__all__ = ["Method", "WeightMethod", "evaluating", "initialize", "look_on", "observe"]


def initialize(
    model: nn.Module,
    batches: Iterable[Any],
    method: Method = "mse",
    weights: WeightMethod = "lsq+",
    observer: Callable[[str], Observer] = Observer,
    progress: Callable[[str], None] = lambda name: None,
    *,
    input_key: InputKey | None = None,
) -> None:
    """Give every quantizer of a prepared model its first grid: activations by `method`, weights by `weights`.

    batches: any iterable of input tensors [N, …] or (input, target) pairs, read once.
    input_key: for other batches: the key of the input in mappings ("pixel_values"), or a function that takes a batch
    and returns its input, or such a pair.
    observer: what collects the statistics; `SharedObserver` where each of several processes has a share of the batches.
    progress: called with the name of each quantizer whose grid was found, from several threads.

    The model runs on the batches in float, in eval mode, on its own device; its training mode comes back afterwards.
    Grids are set only when all of them were found.

    Errors (QuantizationError): unknown method, no quantizers, 16-bit weights; no batches, a batch that has no tensor of
    floats or that the model does not take; weights or inputs that are not finite, inputs that are all the same; a
    quantizer that saw no data.
    """
    if isinstance(batches, nn.Module) and not isinstance(model, nn.Module):
        raise QuantizationError("the arguments are swapped: calib.initialize(model, batches)")
    check_model(model)
    if method not in get_args(Method):
        raise QuantizationError(f"method={method!r}: use one of {', '.join(get_args(Method))}")
    if weights not in get_args(WeightMethod):
        raise QuantizationError(f"weights={weights!r}: use one of {', '.join(get_args(WeightMethod))}")
    quantizers = quantized_modules(model)
    if not quantizers:
        raise QuantizationError("the model has no quantizers: call lsq_export.prepare(model, config) first")
    check_values(model)
    seen = observe(model, batches, observer, input_key)
    for name in quantizers:
        data = seen.get(name)
        if data is None or (isinstance(data, Observer) and data.count == 0):
            raise QuantizationError(
                f"{name}: no data: the calibration batches never reach this layer; remove it, or give batches that do"
            )

    def grid(quantizer: Quantized) -> tuple[torch.Tensor | float, float]:
        data = seen[quantizer.name]
        scale: torch.Tensor | float
        if isinstance(data, torch.Tensor):
            scale, offset = weight_scale(quantizer, data, weights), 0.0
        else:
            scale, offset = activation_grid(quantizer, data, method)
        progress(quantizer.name)
        return scale, offset

    with workers() as run:
        grids = run([partial(grid, quantizer) for quantizer in quantizers.values()])
    for quantizer, (scale, offset) in zip(quantizers.values(), grids, strict=True):
        quantizer.set_grid(scale, offset)


def observe(
    model: nn.Module,
    batches: Iterable[Any],
    observer: Callable[[str], Observer] = Observer,
    input_key: InputKey | None = None,
) -> dict[str, Observer | torch.Tensor]:
    """What reaches each quantizer when the model runs in float.

    That is the statistics of an activation, or the weight itself.
    """
    seen: dict[str, Observer | torch.Tensor] = {}
    look_on(model, batches, partial(_record, seen, observer), input_key, shared=observer is not Observer)
    return seen


def look_on(
    model: nn.Module,
    batches: Iterable[Any],
    look: Callable[[nn.Module, tuple[Any, ...]], None],
    input_key: InputKey | None = None,
    *,
    shared: bool = False,
) -> None:
    """Run the model in float on the batches, and call look(quantizer, its inputs) before each use of a quantizer.

    shared: these are the shares of one of several processes, which may be empty.
    Errors (QuantizationError): a batch that the model does not take, with what its first layer takes.
    """
    device, dtype = next(model.parameters()).device, _float_type(model)
    xs = inputs(batches, device, input_key)
    hooks = [quantizer.register_forward_pre_hook(look) for quantizer in quantized_modules(model).values()]
    try:
        with torch.no_grad(), bypassed(model), evaluating(model), batched(model):
            for index, x in enumerate(xs if shared else varying(xs)):
                try:
                    model(x.to(dtype))
                except QuantizationError:
                    raise
                except Exception as error:  # a user's forward can raise anything
                    raise refusal(model, x, error, f"{CALIBRATION} {index}: ") from error
    finally:
        for hook in hooks:
            hook.remove()


def _float_type(model: nn.Module) -> torch.dtype:
    """That of the weights; quantizers have one of their own."""
    own = (module.parameters(recurse=False) for module in model.modules() if not isinstance(module, Quantized))
    return next((p.dtype for parameters in own for p in parameters if p.is_floating_point()), torch.float32)


def _record(
    seen: dict[str, Observer | torch.Tensor],
    observer: Callable[[str], Observer],
    quantizer: nn.Module,
    args: tuple[Any, ...],
) -> None:
    assert isinstance(quantizer, Quantized)
    if quantizer.kind == "weight":
        seen.setdefault(quantizer.name, args[0].detach())
        return
    statistics = seen.setdefault(quantizer.name, observer(quantizer.name))
    assert isinstance(statistics, Observer)
    statistics.update(args[0])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode inside this block; afterwards each module is in the mode in which it was."""
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
