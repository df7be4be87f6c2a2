"""First grids of a prepared model, from its weights and from calibration batches.

    calib.initialize(model, batches, method="mse")

The model runs on the batches in float; each quantizer then gets its grid by one of the rules of
`calib.initialization.rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, get_args

import torch
from torch import nn

from calib.batches import CALIBRATION, InputKey, inputs, refusal, varying
from calib.door import batched, check_model, check_values, unwrapped
from calib.errors import QuantizationError, warn
from calib.quantized import Quantized, bypassed, quantized_modules
from calib.samples import called, each_float
from calib.signature import takes_of
from calib.statistics.counting_observer import CountingObserver
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

    batches: any iterable of input tensors [N, …] or (input, target) pairs, read once. Of a model whose forward takes
    several inputs: (x, mask), (x, mask, target), ((x, mask), target), or mappings by their names.
    input_key: for other batches: the key of the input in mappings ("pixel_values"), or a function that takes a batch
    and returns its input, or such a pair.
    observer: what collects the statistics; `SharedObserver` where each of several processes has a share of the batches.
    progress: called with the name of each quantizer whose grid was found, from several threads.

    The model runs on the batches in float, in eval mode, on its own device; its training mode comes back afterwards.
    Grids are set only when all of them were found.

    Errors (QuantizationError): unknown method, no quantizers, 16-bit weights; no batches, a batch that has no tensor of
    floats or that the model does not take; weights or inputs that are not finite, inputs that are all the same; no
    quantizer that sees data. Layers that see none (auxiliary heads) are left out, with a warning.
    """
    if isinstance(batches, nn.Module) and not isinstance(model, nn.Module):
        raise QuantizationError("the arguments are swapped: calib.initialize(model, batches)")
    check_model(model)
    model = unwrapped(model)
    if method not in get_args(Method):
        raise QuantizationError(f"method={method!r}: use one of {', '.join(get_args(Method))}")
    if weights not in get_args(WeightMethod):
        raise QuantizationError(f"weights={weights!r}: use one of {', '.join(get_args(WeightMethod))}")
    quantizers = quantized_modules(model)
    if not quantizers:
        raise QuantizationError("the model has no quantizers: call lsq_export.prepare(model, config) first")
    check_values(model)
    seen = observe(model, batches, observer, input_key)
    used = _used(quantizers, seen)

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
        grids = run([partial(grid, quantizer) for quantizer in used])
    for quantizer, (scale, offset) in zip(used, grids, strict=True):
        quantizer.set_grid(scale, offset)
    for quantizer in quantizers.values():
        quantizer.left_out = quantizer not in used


def _used(quantizers: Mapping[str, Quantized], seen: Mapping[str, Observer | torch.Tensor]) -> list[Quantized]:
    """Those that the batches reach; a warning names layers that they do not, as heads for training alone.

    Errors (QuantizationError): they reach none.
    """
    reached = [
        name
        for name, data in seen.items()
        if name in quantizers and not (isinstance(data, Observer) and data.count == 0)
    ]
    unseen = [name for name, quantizer in quantizers.items() if name not in reached and not quantizer.of_integers]
    if not reached and unseen:
        raise QuantizationError(
            f"{unseen[0]}: no data: the calibration batches never reach this layer; remove it, or give batches that do"
        )
    if unseen:
        layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in unseen))
        more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
        warn(
            f"no data reach {', '.join(layers[:3])}{more} in eval mode: left out, which is right for heads of training "
            "alone; they get no grids, stay float in training, and no exported file has them",
        )
    return [quantizers[name] for name in quantizers if name in reached]


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
    alone = observer in (Observer, CountingObserver)
    look_on(model, batches, partial(_record, seen, observer), input_key, any_data=not alone)
    return seen


def look_on(
    model: nn.Module,
    batches: Iterable[Any],
    look: Callable[[nn.Module, tuple[Any, ...]], None],
    input_key: InputKey | None = None,
    *,
    any_data: bool = False,
) -> None:
    """Run the model in float on the batches, and call look(quantizer, its inputs) before each use of a quantizer.

    any_data: also constant or empty, as the share of one of several processes may be, or an example input.
    Errors (QuantizationError): a batch that the model does not take, with what its first layer takes.
    """
    device, dtype = next(model.parameters()).device, _float_type(model)
    xs = inputs(batches, device, input_key, takes_of(model))
    hooks = [quantizer.register_forward_pre_hook(look) for quantizer in quantized_modules(model).values()]
    try:
        with torch.no_grad(), bypassed(model), evaluating(model), batched(model):
            for index, x in enumerate(xs if any_data else varying(xs)):
                try:
                    called(model, each_float(x, lambda tensor: tensor.to(dtype)))
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
    if not args[0].is_floating_point():
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
