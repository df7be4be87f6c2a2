"""First grids of a prepared model, from its weights and from calibration batches.

Activations, n and p the smallest and the largest code:

    minmax   s = (max - min) / (p - n), β = min - n·s     LSQ+, its min-max initialization
             symmetric: s = max|x| / p, for unsigned codes max(x) / p, β = 0
    lsq      s = 2·mean|x| / √p, β = 0                    LSQ part 2.1; LSQ has no offset, so asymmetric grids start at β = 0 too
    mse      argmin over s, β of ‖x̂ - x‖²                 LSQ+, see `calib.initialization.search`

Weights, per tensor or per channel:

    lsq+     s = max|μ ± 3σ| / 2^(b-1)                    LSQ+
    mse      argmin over s of ‖ŵ - w‖²                    exact, see `calib.initialization.scale`

A tensor for which a rule gives no usable scale (constant, all zeros, all below zero) still gets a positive one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import nn

from calib.errors import QuantizationError
from calib.quantized import Quantized, bypassed, quantized_modules
from calib.statistics.observers import POINTS, Observer
from calib.workers import workers

from .scale import best_scale
from .search import OffsetRule, best_grid

Method = Literal["minmax", "lsq", "mse"]
WeightMethod = Literal["lsq+", "mse"]
RESOLUTION = 2.0**-20  # a range below this share of max|x| counts as a constant: float32 could not tell its codes apart
CHANNEL_POINTS = 1024  # of the weights of one channel, of which there are thousands
TINY = 1e-30  # a scale below this is no scale


def initialize(
    model: nn.Module,
    batches: Iterable[Any],
    method: Method = "mse",
    weights: WeightMethod = "lsq+",
    observer: Callable[[str], Observer] = Observer,
    progress: Callable[[str], None] = lambda name: None,
) -> None:
    """Give every quantizer of a prepared model its first grid: activations by `method`, weights by `weights`.

    batches: any iterable of input tensors or (input, target) pairs, read once. The model runs on them in float, in eval
    mode, on its own device; its training mode comes back afterwards. Grids are set only when all of them were found.
    observer: what collects the statistics; `SharedObserver` where each of several processes has a share of the batches.
    progress(name): called for each quantizer whose grid was found, from several threads. Errors: unknown method, no
    quantizers, no batches, a batch that is not a tensor, values that are not finite, a quantizer that saw no data."""
    if method not in get_args(Method):
        raise QuantizationError(f"method={method!r}: use one of {', '.join(get_args(Method))}")
    if weights not in get_args(WeightMethod):
        raise QuantizationError(f"weights={weights!r}: use one of {', '.join(get_args(WeightMethod))}")
    quantizers = quantized_modules(model)
    if not quantizers:
        raise QuantizationError("the model has no quantizers: call lsq_export.prepare(model, config) first")
    seen = observe(model, batches, observer)
    for name in quantizers:
        data = seen.get(name)
        if data is None or (isinstance(data, Observer) and data.count == 0):
            raise QuantizationError(
                f"{name}: no data: the calibration batches never reach this layer; remove it, or give batches that do"
            )

    def grid(quantizer: Quantized) -> tuple[torch.Tensor | float, float]:
        data = seen[quantizer.name]
        found = (
            (weight_scale(quantizer, data, weights), 0.0)
            if isinstance(data, torch.Tensor)
            else activation_grid(quantizer, data, method)
        )
        progress(quantizer.name)
        return found

    with workers() as run:
        grids = run([partial(grid, quantizer) for quantizer in quantizers.values()])
    for quantizer, (scale, offset) in zip(quantizers.values(), grids, strict=True):
        quantizer.set_grid(scale, offset)


def observe(
    model: nn.Module, batches: Iterable[Any], observer: Callable[[str], Observer] = Observer
) -> dict[str, Observer | torch.Tensor]:
    """What reaches each quantizer when the model runs in float:

    statistics of an activation, the tensor itself for a weight.
    """
    seen: dict[str, Observer | torch.Tensor] = {}
    look_on(model, batches, partial(_record, seen, observer))
    return seen


def look_on(model: nn.Module, batches: Iterable[Any], look: Callable[[nn.Module, tuple[Any, ...]], None]) -> None:
    """Run the model in float on the batches; look(quantizer, its inputs) comes before each use of a quantizer."""
    hooks = [quantizer.register_forward_pre_hook(look) for quantizer in quantized_modules(model).values()]
    try:
        with torch.no_grad(), bypassed(model), evaluating(model):
            for x in inputs(batches, next(model.parameters()).device):
                model(x)
    finally:
        for hook in hooks:
            hook.remove()


def inputs(batches: Iterable[Any], device: torch.device) -> Iterator[torch.Tensor]:
    """The input tensor of each batch, on the device."""
    if isinstance(batches, torch.Tensor):
        raise QuantizationError("batches is a tensor: give an iterable of batches, [tensor] for a single one")
    if not isinstance(batches, Iterable):
        raise QuantizationError(
            f"batches is {type(batches).__name__}: give an iterable of tensors or (input, target) pairs"
        )
    count = 0
    for batch in batches:
        x = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
        if not isinstance(x, torch.Tensor):
            raise QuantizationError(
                f"calibration batch {count} is {type(x).__name__}: give tensors or (input, target) pairs"
            )
        yield x.to(device)
        count += 1
    if not count:
        raise QuantizationError("no calibration batches: the iterable is empty")


def weight_scale(quantizer: Quantized, weight: torch.Tensor, method: WeightMethod) -> torch.Tensor:
    """s by one of the methods, shape [] or [C];

    σ of the population. A channel of zeros gets the mean scale of the others.
    """
    rows = weight.detach().flatten(1) if quantizer.axis == 0 else weight.detach().reshape(1, -1)  # [C or 1, elements]
    if not bool(torch.isfinite(rows).all()):
        raise QuantizationError(
            f"{quantizer.name}: values are not finite (NaN or infinity); check the weights of the model"
        )
    if method == "mse":
        scale = torch.tensor([_mse_scale(quantizer, row) for row in rows], dtype=torch.float64, device=rows.device)
    else:
        wide = rows.double()
        scale = (wide.mean(1).abs() + 3 * wide.std(1, correction=0)) / 2 ** (
            quantizer.bits - 1
        )  # max|μ ± 3σ| = |μ| + 3σ
    usable = scale > TINY
    fallback = scale[usable].mean() if bool(usable.any()) else scale.new_tensor(2.0 ** -(quantizer.bits - 1))
    return torch.where(usable, scale, fallback).reshape(quantizer.scale.shape)


def _mse_scale(quantizer: Quantized, row: torch.Tensor) -> float:
    """The best s of a row; 0 where there is none (zeros)."""
    seen = Observer(quantizer.name, POINTS if quantizer.axis is None else CHANNEL_POINTS)
    seen.update(row)
    found = best_scale(seen.points(), quantizer.qmin, quantizer.qmax) if seen.max_abs > TINY else None
    return found[0] if found else 0.0


def activation_grid(quantizer: Quantized, seen: Observer, method: Method) -> tuple[float, float]:
    """(s, β) by one of the methods."""
    if quantizer.holds_zero:
        Observer.update(seen, torch.zeros(1))  # not a share of something: the same in every process
        scale, offset = _grid(quantizer, seen, method)
        holds = scale * quantizer.qmin + offset <= 0 <= scale * quantizer.qmax + offset
        return (scale, offset) if holds else _minmax(quantizer, seen)
    return _grid(quantizer, seen, method)


def _grid(quantizer: Quantized, seen: Observer, method: Method) -> tuple[float, float]:
    if method != "mse":
        rule: Callable[[Quantized, Observer], tuple[float, float]] = _minmax if method == "minmax" else _lsq
        return rule(quantizer, seen)
    if seen.max - seen.min <= RESOLUTION * seen.max_abs:
        return _minmax(quantizer, seen)
    offset: OffsetRule = (
        "none"
        if quantizer.symmetric
        else "integer"
        if quantizer.integer_offset and quantizer.offset_steps == 1
        else "real"
    )
    starts = [_minmax(quantizer, seen), _lsq(quantizer, seen)]
    return best_grid(seen.points(), quantizer.qmin, quantizer.qmax, offset, starts)


def _minmax(quantizer: Quantized, seen: Observer) -> tuple[float, float]:
    n, p = quantizer.qmin, quantizer.qmax
    if quantizer.symmetric:
        top = max(seen.max, 0.0) if n == 0 else seen.max_abs
        return _usable(top / p, seen, p), 0.0
    spread = seen.max - seen.min
    scale = _usable(spread / (p - n) if spread > RESOLUTION * seen.max_abs else 0.0, seen, p - n)
    return scale, seen.min - n * scale


def _lsq(quantizer: Quantized, seen: Observer) -> tuple[float, float]:
    return _usable(2 * seen.mean_abs / math.sqrt(quantizer.qmax), seen, quantizer.qmax), 0.0


def _usable(scale: float, seen: Observer, codes: int) -> float:
    """The scale, or, where there is none, the one that spreads [0, max|x|], or [0, 1] for a tensor of zeros, over the
    codes.
    """
    if scale > TINY:
        return scale
    return (seen.max_abs if seen.max_abs / codes > TINY else 1.0) / codes


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
    """Eval mode; afterwards each module is in the mode in which it was."""
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
