"""Counting how a model uses its grids, while somebody runs it or on given batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from calib.errors import QuantizationError
from calib.quantized import Quantized

from .comparison import Drift, Thresholds, compare
from .range_use import RangeCounter, RangeUse
from .running import activation_quantizers, run


def measure(
    model: nn.Module, batches: Iterable[Any], progress: Callable[[str], None] | None = None
) -> dict[str, RangeUse]:
    """How the activation quantizers of a prepared model with grids are used on these data: {name: use}.

    batches: as for `calib.initialize`.
    progress: called after each batch with the number of samples so far, in words.

    Errors (QuantizationError): no quantizers or no grids yet, batches that cannot be used, a quantizer that they never
    reach, NaN or infinity.
    """
    with DriftMonitor(model) as monitor:
        run(model, batches, progress)
        return monitor.uses()


class DriftMonitor:
    """Counts what passes the activation quantizers of a model, and keeps no tensor.

    Anybody may run the model: a training loop, or the program that serves it.

    reference: what `report` compares with.
    training: True counts only what passes in training mode, False only what passes in eval mode, None both.

        from calib import drift
        from lsq_export import training
        reference = drift.measure(model, data.batches("train", limit=8))
        with drift.DriftMonitor(model, reference, training=True) as monitor:

            def on_epoch(model, epoch, metrics):
                history.append([d.name for d in monitor.report() if d.reasons])
                monitor.reset()

            training.finetune(model, data, epochs=2, on_epoch=on_epoch)
    """

    def __init__(
        self, model: nn.Module, reference: Mapping[str, RangeUse] | None = None, *, training: bool | None = None
    ) -> None:
        self.reference, self.training = reference, training
        self._quantizers = activation_quantizers(model)
        self.reset()
        # After forward: in training mode, forward has moved a scale that fell too low.
        self._hooks = [
            quantizer.register_forward_hook(partial(_count, self)) for quantizer in self._quantizers.values()
        ]

    def reset(self) -> None:
        """Forget what was counted."""
        self._counters = {name: RangeCounter(quantizer) for name, quantizer in self._quantizers.items()}

    def uses(self) -> dict[str, RangeUse]:
        """What was counted since the start or the last reset. Errors (QuantizationError): nothing was."""
        return {name: counter.result() for name, counter in self._counters.items()}

    def report(self, thresholds: Thresholds | None = None) -> tuple[Drift, ...]:
        """Compare the reference with what was counted."""
        if self.reference is None:
            raise QuantizationError(
                "the monitor has no reference to compare with: DriftMonitor(model, drift.measure(model, batches))"
            )
        return compare(self.reference, self.uses(), thresholds)

    def close(self) -> None:
        """Stop counting; what was counted stays."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> DriftMonitor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


Function = TypeVar("Function", bound=Callable[..., Any])


def _not_compiled(function: Function) -> Function:
    """The function, which torch.compile then leaves alone."""
    disable: Any = torch.compiler.disable  # which has no types
    disabled: Function = disable(function)
    return disabled


@_not_compiled
def _count(monitor: DriftMonitor, quantizer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    assert isinstance(quantizer, Quantized)
    if not quantizer.bypass and monitor.training in (None, quantizer.training):
        monitor._counters[quantizer.name].update(args[0])
