"""Training: float pre-training, then quantization-aware training (QAT) of scales, offsets and weights together.

    result = pretrain(float_model, data)                     # SGD, short warm-up, cosine schedule
    qat = prepare(float_model, config)
    calib.initialize(qat, data.batches("train", limit=4), method="mse")
    result = finetune(qat, data, on_epoch=show)              # the same with a lower rate; show(model, epoch, metrics)

The same seed gives the same batches. Models are trained in place. Nothing is printed unless a rich console is given.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from calib.errors import QuantizationError
from lsq_export.data.dataset import Dataset
from lsq_export.progress import Steps, optional_bar

from .batch_norm import synchronized
from .distributed import SINGLE, Processes
from .loop import Loop
from .predict import check_fit, evaluate, predict
from .recipe import FINETUNE, FINETUNE_ADAM, PRETRAIN, PRETRAIN_ADAM, Epoch, Recipe, TrainResult
from .state import State

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "FINETUNE",
    "FINETUNE_ADAM",
    "PRETRAIN",
    "PRETRAIN_ADAM",
    "Epoch",
    "Recipe",
    "TrainResult",
    "evaluate",
    "finetune",
    "fit",
    "predict",
    "pretrain",
]


def pretrain(
    model: nn.Module, data: Dataset, epochs: int | None = None, *, recipe: Recipe = PRETRAIN, **options: Any
) -> TrainResult:
    """Train a float model in place. epochs: instead of those of the recipe. options: those of `fit`."""
    return fit(
        model, data, recipe if epochs is None else replace(recipe, epochs=epochs), **{"title": "float", **options}
    )


def finetune(
    model: nn.Module, data: Dataset, epochs: int | None = None, *, recipe: Recipe = FINETUNE, **options: Any
) -> TrainResult:
    """Train a prepared and initialized model (QAT) in place.

    epochs: instead of those of the recipe. options: those of `fit`.
    """
    return fit(model, data, recipe if epochs is None else replace(recipe, epochs=epochs), **{"title": "QAT", **options})


def fit(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: str | torch.device | None = None,
    console: Console | None = None,
    on_epoch: Callable[[nn.Module, int, Epoch], None] | None = None,
    title: str = "training",
    teacher: nn.Module | None = None,
    state: State | None = None,
    keep: Callable[[State], None] | None = None,
    keep_every: int = 0,
    processes: Processes = SINGLE,
) -> TrainResult:
    """Minimize the loss of the recipe on data's train split; test after each epoch.

    device: CUDA where there is one, else the CPU; the models come back on the CPU.
    console: a rich console for a progress bar; a line per epoch where it is no terminal.
    on_epoch: called after each test with the model, the epoch (from 1) and its metrics.
    teacher: a float model, for a recipe with `distill`.
    keep: called with the state before the first step, after each epoch and after each `keep_every` steps of one; its
    tensors are the living ones.
    state: go on from there (same model, data, recipe, seed and device) to the same bits.
    processes: those of `distributed.launch`, all of which call this; each trains on its share of the same batches, on
    its own device.

    Ctrl-C ends the training, see `TrainResult`. Errors (QuantizationError): a model that cannot run on the data's
    inputs or has fewer logits than the data have classes; a loss that is not finite (the model is then as after the
    last good epoch).
    """
    _check(recipe, data)
    place = torch.device(processes.device or device or ("cuda" if torch.cuda.is_available() else "cpu"))
    loop = Loop(model.to(place), data, recipe, seed=seed, device=place, teacher=teacher, processes=processes)
    if state is not None:
        loop.restore(state)
    check_fit(model, data, place)
    calls = _Calls(keep or (lambda state: None), keep_every, on_epoch or (lambda model, epoch, metrics: None))
    interrupted = False
    try:
        with optional_bar(console, title, loop.remaining) as show:
            _run(loop, state, calls, show)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if loop.epoch < recipe.epochs or loop.average is not None:
            model.load_state_dict(loop.good)
        model.to("cpu").eval()
        if teacher is not None:
            teacher.to("cpu")
    return TrainResult(loop.history, interrupted, str(place), recipe)


@dataclass(frozen=True)
class _Calls:
    """What to call while the model trains, see `fit`."""

    keep: Callable[[State], None]
    keep_every: int
    on_epoch: Callable[[nn.Module, int, Epoch], None]


def _check(recipe: Recipe, data: Dataset) -> None:
    if not data.num_classes:
        raise QuantizationError(f"{data.name} has no classes to train on: give y, one integer class for each sample")
    for what, value, least in (
        ("epochs", recipe.epochs, 1),
        ("batch size", recipe.batch_size, 2),
        ("number of samples", len(data.train), 2),
    ):
        if value < least:
            raise QuantizationError(f"{what} is {value}: training needs {least} or more")


def _run(loop: Loop, state: State | None, calls: _Calls, show: Steps) -> None:
    """Train for all epochs that are left. state: where the loop goes on; None: it begins."""

    def after_step() -> None:
        if calls.keep_every and loop.step % calls.keep_every == 0:
            calls.keep(loop.state())

    devices = [loop.device] if loop.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _repeatable(loop.device), synchronized(loop.model, loop.processes):
        if state is None:
            torch.manual_seed(loop.seed + loop.processes.rank)  # for dropout; the batches have a generator of their own
            calls.keep(loop.state())
        else:
            loop.restore_random(state)
        while loop.epoch < loop.recipe.epochs:
            metrics = loop.run_epoch(show, after_step)
            calls.on_epoch(loop.result, loop.epoch, metrics)
            calls.keep(loop.state())
            show.line(
                f"epoch {metrics.epoch}/{loop.recipe.epochs}  loss {metrics.loss:.4f}  training accuracy "
                f"{metrics.train_accuracy:.1%}  test accuracy {metrics.test_accuracy:.1%}"
            )


def _repeatable(device: torch.device) -> AbstractContextManager[None]:
    """Use only convolutions that give the same bits each time, on a GPU."""
    if device.type != "cuda":
        return nullcontext()
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    return flags
