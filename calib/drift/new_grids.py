"""New grids for quantizers that have left their range."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any, get_args

from torch import nn

from calib.errors import QuantizationError
from calib.initialization.rules import Method, activation_grid
from calib.quantized import bypassed
from calib.statistics.observers import Observer

from .running import activation_quantizers, run


def reinitialize(model: nn.Module, batches: Iterable[Any], names: Iterable[str], method: Method = "mse") -> None:
    """Give the activation quantizers `names` new grids from these data; all others stay as they are, to the bit.

    The model runs with the others quantizing and these in float, so each sees what it will see after new grids that
    lose nothing. Grids are set only when all were found.

    Errors (QuantizationError): those of `measure`; an unknown method or name, no names.
    """
    if method not in get_args(Method):
        raise QuantizationError(f"method={method!r}: use one of {', '.join(get_args(Method))}")
    known, names = activation_quantizers(model), list(dict.fromkeys(names))
    if not names or (unknown := [name for name in names if name not in known]):
        what = f"{unknown[0]!r} is no activation quantizer of the model" if names else "no names"
        raise QuantizationError(f"{what}: name quantizers to re-initialize, as lsq_export.quantizers(model) lists them")
    seen = {name: Observer(name) for name in names}
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(bypassed(known[name]))
            hook = known[name].register_forward_pre_hook(partial(_observe, seen[name]))
            stack.callback(hook.remove)
        run(model, batches)
    if unseen := [name for name in names if not seen[name].count]:
        raise QuantizationError(f"{unseen[0]}: no data: the batches never reach this quantizer; give batches that do")
    grids = {name: activation_grid(known[name], seen[name], method) for name in names}
    for name, (scale, offset) in grids.items():
        known[name].set_grid(scale, offset)


def _observe(observer: Observer, quantizer: nn.Module, args: tuple[Any, ...]) -> None:
    observer.update(args[0])
