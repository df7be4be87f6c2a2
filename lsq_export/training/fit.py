"""The training loop: float pre-training, then quantization-aware training (QAT) of scales, offsets and weights
together.

    result = pretrain(float_model, data)                                    # SGD, short warm-up, cosine schedule
    qat = prepare(float_model, config); calib.initialize(qat, data.batches("train", limit=4), method="mse")
    result = finetune(qat, data, on_epoch=lambda model, epoch, metrics: ...)  # the same with a lower rate

The same seed gives the same batches. Models are trained in place. Nothing is printed unless a rich console is given.
The parts: `training/`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from calib.errors import QuantizationError
from lsq_export.data.dataset import Dataset
from lsq_export.progress import optional_bar

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
    """Train a float model in place. epochs: instead of the recipe's. options: those of `fit`."""
    return fit(model, data, recipe if epochs is None else replace(recipe, epochs=epochs), title="float", **options)


def finetune(
    model: nn.Module, data: Dataset, epochs: int | None = None, *, recipe: Recipe = FINETUNE, **options: Any
) -> TrainResult:
    """Train a prepared and initialized model (QAT) in place.

    epochs: instead of the recipe's. options: those of `fit`.
    """
    return fit(model, data, recipe if epochs is None else replace(recipe, epochs=epochs), title="QAT", **options)


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
    """Minimize the loss of the recipe on data's train split; after each epoch test, then call on_epoch(model, epoch,
    metrics).

    device: CUDA where there is one, else the CPU; the models come back on the CPU. Ctrl-C ends the training, see
    `TrainResult`. teacher: a float model, for a recipe with `distill`. keep: called with the state before the first
    step, after each epoch and after each `keep_every` steps of one; its tensors are the living ones. state: go on from
    there (same model, data, recipe, seed and device) to the same bits. processes: those of `distributed.launch`, all of
    which call this; each trains on its share of the same batches, on its own device. Errors (QuantizationError): a
    model that cannot run on the data's inputs or has fewer logits than the data classes; a loss that is not finite (the
    model is then as after the last good epoch)."""
    for what, value, least in (
        ("epochs", recipe.epochs, 1),
        ("batch size", recipe.batch_size, 2),
        ("number of samples", len(data.train), 2),
    ):
        if value < least:
            raise QuantizationError(f"{what} is {value}: training needs {least} or more")
    place = torch.device(processes.device or device or ("cuda" if torch.cuda.is_available() else "cpu"))
    loop = Loop(model.to(place), data, recipe, seed=seed, device=place, teacher=teacher, processes=processes)
    if state is not None:
        loop.restore(state)
    check_fit(model, data, place)
    keep = keep or (lambda state: None)

    def after_step() -> None:
        if keep_every and loop.step % keep_every == 0:
            keep(loop.state())

    interrupted = False
    remaining = recipe.epochs * loop.steps - loop.epoch * loop.steps - loop.step
    try:
        with (
            torch.random.fork_rng(devices=[place] if place.type == "cuda" else []),
            _repeatable(place),
            synchronized(model, processes),
            optional_bar(console, title, remaining) as show,
        ):
            if state is None:
                torch.manual_seed(seed + processes.rank)  # for dropout; the batches have a generator of their own
                keep(loop.state())
            else:
                loop.restore_random(state)
            while loop.epoch < recipe.epochs:
                metrics = loop.run_epoch(show, after_step)
                if on_epoch is not None:
                    on_epoch(loop.result, loop.epoch, metrics)
                keep(loop.state())
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if loop.epoch < recipe.epochs or loop.average is not None:
            model.load_state_dict(loop.good)
        model.to("cpu").eval()
        if teacher is not None:
            teacher.to("cpu")
    return TrainResult(loop.history, interrupted, str(place), recipe)


def _repeatable(device: torch.device) -> AbstractContextManager[None]:
    """On a GPU: only convolutions that give the same bits each time."""
    if device.type != "cuda":
        return nullcontext()
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    return flags
