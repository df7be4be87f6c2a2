"""Do the data still fit the learned grids? Compares how each activation quantizer is used now with how it was used in
calibration.

LSQ+ learns s and β for the data that it sees (arXiv:2004.09576, part 3); other data meet a grid that clips them or
leaves its codes unused.

    before = drift.measure(model, calibration_batches)             # {name: RangeUse}; train writes it into the checkpoint
    now = drift.measure(model, deployment_batches)
    left = [d for d in drift.compare(before, now) if d.reasons]    # d.reasons: "clips 7.3 % above (0.4 % in calibration)", …
    drift.reinitialize(model, deployment_batches, [d.name for d in left])

The model runs quantized, in eval mode: what a layer receives is what it receives in use, behind the clipping of those
before it. A quantizer that clips therefore hides the drift from those behind it; they may leave their range once it is
re-initialized, so compare again afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import torch
from torch import nn

from calib.errors import QuantizationError
from calib.initialization.first_grids import Method, activation_grid, evaluating, inputs
from calib.quantized import Quantized, bypassed, quantized_modules
from calib.statistics.observers import Observer

from .range_use import TAIL, RangeCounter, RangeUse

RECORD = "range_use"  # the key of the record in a checkpoint's `extra`
# noise below this share of s²/12 counts as this much: an error of float rounding may grow a thousandfold and still be
# none
NEGLIGIBLE = 0.01


@dataclass(frozen=True)
class Thresholds:
    """When a quantizer has left its range; any one is enough.

    clipped   the share clipped on one side has grown by more than this (0-1) and by more than half
    codes     the codes in use are at most this share of those in calibration: at 0.5 a bit lies idle
    error     the relative error (mse / variance of the signal) is more than so many times that of calibration: 4 are 6 dB, a bit.
              Clipped elements count where they are more than TAIL (0.1 %) of all: at 8 bits, else, a few outliers would
              be a drift
    """

    clipped: float = 0.01
    codes: float = 0.5
    error: float = 4.0

    def __post_init__(self) -> None:
        for what, value, low, high in (
            ("clipped", self.clipped, 0, 1),
            ("codes", self.codes, 0, 1),
            ("error", self.error, 1, float("inf")),
        ):
            if not low <= value <= high:
                raise QuantizationError(f"threshold {what}={value}: use a number from {low} to {high}")


@dataclass(frozen=True)
class Drift:
    """One quantizer, in calibration and now. error: times that of calibration, see `Thresholds`; None where a signal is
    constant.

    reasons: why it has left its range; empty if it has not.
    """

    name: str
    before: RangeUse
    now: RangeUse
    error: float | None
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "reasons": list(self.reasons),
            "error": self.error,
            "before": self.before.to_dict(),
            "now": self.now.to_dict(),
        }


def measure(
    model: nn.Module, batches: Iterable[Any], progress: Callable[[str], None] | None = None
) -> dict[str, RangeUse]:
    """How the activation quantizers of a prepared model with grids are used on these data: {name: use}.

    batches: as for `calib.initialize`. progress: called after each batch with the number of samples so far, in words.
    Errors (QuantizationError): no quantizers or no grids yet, batches that cannot be used, a quantizer that they never
    reach, NaN or infinity."""
    with DriftMonitor(model) as monitor:
        _run(model, batches, progress)
        return monitor.uses()


def compare(
    before: Mapping[str, RangeUse], now: Mapping[str, RangeUse], thresholds: Thresholds | None = None
) -> tuple[Drift, ...]:
    """Every quantizer of `now`, in its order. Errors (QuantizationError): the two are not of one network."""
    if unlike := [
        name
        for name in {**now, **before}
        if name not in before or name not in now or before[name].bits != now[name].bits
    ]:
        raise QuantizationError(
            f"{unlike[0]}: the record of calibration is of another network (other names or bits): measure it on this "
            "one"
        )
    return tuple(_compare(before[name], use, thresholds or Thresholds()) for name, use in now.items())


def _compare(before: RangeUse, now: RangeUse, limits: Thresholds) -> Drift:
    reasons = []
    for side, was, is_now in (("below", before.below, now.below), ("above", before.above, now.above)):
        if is_now - was > max(limits.clipped, was / 2):
            reasons.append(f"clips {is_now:.1%} {side} ({was:.1%} in calibration)")
    if now.codes <= limits.codes * before.codes:
        reasons.append(f"uses {now.codes} of {2**now.bits} codes ({before.codes} in calibration)")
    error = None
    if before.relative_error is not None and now.relative_error is not None:
        least = NEGLIGIBLE * before.scale**2 / 12
        outliers = sum(mse for share, mse in ((now.below, now.mse_below), (now.above, now.mse_above)) if share <= TAIL)
        error = max(now.mse - outliers, least) / now.std**2 / (max(before.mse, least) / before.std**2)
        if error > limits.error:
            reasons.append(f"error {error:.1f} × that of calibration")
    return Drift(now.name, before, now, error, tuple(reasons))


class DriftMonitor:
    """Counts what passes the activation quantizers of a model, whoever runs it: a training loop, or the program that
    serves it. No tensor is kept.

    reference: what `report` compares with. training: True counts only what passes in training mode, False only in eval
    mode, None both.

        from calib import drift
        reference = drift.measure(model, data.batches("train", limit=8))
        with drift.DriftMonitor(model, reference, training=True) as monitor:

            def on_epoch(model, epoch, metrics):
                history.append([d.name for d in monitor.report() if d.reasons])
                monitor.reset()

            train.finetune(model, data, epochs=2, on_epoch=on_epoch)
    """

    def __init__(
        self, model: nn.Module, reference: Mapping[str, RangeUse] | None = None, *, training: bool | None = None
    ) -> None:
        self.reference, self.training = reference, training
        self._quantizers = _activations(model)
        self.reset()
        # behind forward: in training mode that has moved a scale that fell too low by then
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
        """`compare` of the reference with what was counted."""
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


@torch.compiler.disable
def _count(monitor: DriftMonitor, quantizer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    assert isinstance(quantizer, Quantized)
    if not quantizer.bypass and monitor.training in (None, quantizer.training):
        monitor._counters[quantizer.name].update(args[0])


def reinitialize(model: nn.Module, batches: Iterable[Any], names: Iterable[str], method: Method = "mse") -> None:
    """Give the activation quantizers `names` new grids from these data; all others stay as they are, to the bit.

    The model runs with the others quantizing and these in float, so each sees what it will see behind new grids that
    lose nothing. Grids are set only when all were found. Errors (QuantizationError): those of `measure`; an unknown
    method or name, no names."""
    if method not in get_args(Method):
        raise QuantizationError(f"method={method!r}: use one of {', '.join(get_args(Method))}")
    known, names = _activations(model), list(dict.fromkeys(names))
    if not names or (unknown := [name for name in names if name not in known]):
        what = f"{unknown[0]!r} is no activation quantizer of the model" if names else "no names"
        raise QuantizationError(f"{what}: name quantizers to re-initialize, as lsq_export.quantizers(model) lists them")
    seen = {name: Observer(name) for name in names}
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(bypassed(known[name]))
            hook = known[name].register_forward_pre_hook(partial(_observe, seen[name]))
            stack.callback(hook.remove)
        _run(model, batches, None)
    if unseen := [name for name in names if not seen[name].count]:
        raise QuantizationError(f"{unseen[0]}: no data: the batches never reach this quantizer; give batches that do")
    grids = {name: activation_grid(known[name], seen[name], method) for name in names}
    for name, (scale, offset) in grids.items():
        known[name].set_grid(scale, offset)


def _observe(observer: Observer, quantizer: nn.Module, args: tuple[Any, ...]) -> None:
    observer.update(args[0])


def to_record(uses: Mapping[str, RangeUse]) -> list[dict[str, Any]]:
    """What `measure` found, as JSON-able values; a checkpoint keeps it as extra[RECORD]."""
    return [use.to_dict() for use in uses.values()]


def from_record(record: Any) -> dict[str, RangeUse]:
    """The opposite of to_record. Errors (QuantizationError): a record that cannot be read."""
    if not isinstance(record, list):
        raise QuantizationError(
            f"the record of calibration is {type(record).__name__}, not a list of quantizers: measure it again"
        )
    return {use.name: use for use in map(RangeUse.from_dict, record)}


def _activations(model: nn.Module) -> dict[str, Quantized]:
    found = {name: quantizer for name, quantizer in quantized_modules(model).items() if quantizer.kind == "activation"}
    if not found:
        raise QuantizationError("the model has no quantizers: call lsq_export.prepare(model, config) first")
    return found


def _run(model: nn.Module, batches: Iterable[Any], progress: Callable[[str], None] | None) -> None:
    """The model on every batch, in eval mode, on its own device; the mode comes back."""
    samples = 0
    with torch.no_grad(), evaluating(model):
        for x in inputs(batches, next(model.parameters()).device):
            try:
                model(x)
            except QuantizationError:
                raise
            except (RuntimeError, ValueError, TypeError) as error:
                raise QuantizationError(
                    f"the model fails on an input of shape {list(x.shape)}: {' '.join(str(error).split())}"
                ) from error
            samples += len(x)
            if progress is not None:
                progress(f"{samples} images")
