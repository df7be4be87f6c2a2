"""The training loop: float pre-training, then quantization-aware training (QAT) of scales, offsets and weights together.

    result = pretrain(float_model, data)                                    # SGD, short warm-up, cosine schedule
    qat = prepare(float_model, config); calib.initialize(qat, data.batches("train", limit=4), method="mse")
    result = finetune(qat, data, on_epoch=lambda model, epoch, metrics: ...)  # the same with a lower rate

The same seed gives the same batches. Models are trained in place. Nothing is printed unless a rich console is given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from calib.errors import QuantizationError

from .data import Dataset

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run. lr: the highest learning rate; warmup: epochs from 0 to lr; then a cosine down to 0.

    grid_lr: factor on lr for scales and offsets. clip_norm: gradients longer than that (all parameters together) are shortened to it; 0: never.
    """

    epochs: int
    lr: float
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 1.0
    augment: bool = True
    grid_lr: float = 1.0
    clip_norm: float = 0.0


PRETRAIN = Recipe(epochs=25, lr=0.05)
# Low-bit training is less forgiving: without the two safeguards one seed in three diverged at W2A2 (8-bit weight scales grew a thousandfold).
FINETUNE = Recipe(epochs=10, lr=0.03, weight_decay=1e-4, grid_lr=0.1, clip_norm=1.0)


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: mean training loss, accuracies in 0-1, wall time in seconds. epoch counts from 1."""

    epoch: int
    loss: float
    train_accuracy: float
    test_accuracy: float
    seconds: float


@dataclass(frozen=True)
class TrainResult:
    """The completed epochs. interrupted: stopped by Ctrl-C; the model is then in the state of the last completed epoch."""

    epochs: tuple[Epoch, ...]
    interrupted: bool
    device: str
    recipe: Recipe

    @property
    def accuracy(self) -> float:
        """Test accuracy (0-1) of the last completed epoch; NaN if there is none."""
        return self.epochs[-1].test_accuracy if self.epochs else math.nan


def pretrain(model: nn.Module, data: Dataset, epochs: int | None = None, *, recipe: Recipe = PRETRAIN, **options: Any) -> TrainResult:
    """Train a float model in place. epochs: instead of the recipe's. options: those of `fit`."""
    return fit(model, data, recipe if epochs is None else replace(recipe, epochs=epochs), title="float", **options)


def finetune(model: nn.Module, data: Dataset, epochs: int | None = None, *, recipe: Recipe = FINETUNE, **options: Any) -> TrainResult:
    """Train a prepared and initialized model (QAT) in place. epochs: instead of the recipe's. options: those of `fit`."""
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
) -> TrainResult:
    """Minimize the cross entropy on data's train split; after each epoch test, then call on_epoch(model, epoch, metrics).

    device: CUDA where there is one, else the CPU; the model comes back on the CPU. Ctrl-C ends the training, see `TrainResult`.
    Errors (QuantizationError): a model that cannot run on the data's inputs or has fewer logits than the data classes; a loss that is not finite
    (the model is then as after the last good epoch).
    """
    for what, value, least in (("epochs", recipe.epochs, 1), ("batch size", recipe.batch_size, 2), ("number of samples", len(data.train), 2)):
        if value < least:
            raise QuantizationError(f"{what} is {value}: training needs {least} or more")
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    _check_fit(model.to(place), data, place)
    optimizer = _optimizer(model, recipe)
    steps = len(_train_batches(data, recipe, seed))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate((step + 1) / steps, recipe))
    history: list[Epoch] = []
    good, interrupted = _snapshot(model), False
    try:
        with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []), _progress(console, title, recipe.epochs * steps) as show:
            torch.manual_seed(seed)  # for dropout; the batches have a generator of their own
            for epoch in range(1, recipe.epochs + 1):
                start = time.perf_counter()
                loss, accuracy = _epoch(model, data, recipe, seed, epoch, place, optimizer, schedule, show)
                tested = evaluate(model, data.batches("test", 256), device=place)
                history.append(Epoch(epoch, loss, accuracy, tested, time.perf_counter() - start))
                good = _snapshot(model)
                if on_epoch is not None:
                    on_epoch(model, epoch, history[-1])
    except KeyboardInterrupt:
        interrupted = True
        model.load_state_dict(good)
    except QuantizationError:
        model.load_state_dict(good)
        raise
    finally:
        model.to("cpu").eval()
    return TrainResult(tuple(history), interrupted, str(place), recipe)


def predict(model: nn.Module, batches: Iterable[Any], *, device: str | torch.device | None = None) -> torch.Tensor:
    """Logits [samples, classes] on the CPU, in eval mode, without gradients. batches: input tensors or (input, target) pairs."""
    return torch.cat([logits for logits, _ in _forward(model, batches, device)])


def evaluate(model: nn.Module, batches: Iterable[Any], *, device: str | torch.device | None = None) -> float:
    """Top-1 accuracy, 0-1, in eval mode. batches: (input, target) pairs."""
    right = total = 0
    for logits, target in _forward(model, batches, device):
        if target is None:
            raise QuantizationError("accuracy needs (input, target) pairs: the batches hold inputs only")
        right += int((logits.argmax(1) == target).sum())
        total += len(target)
    return right / total


def _forward(model: nn.Module, batches: Iterable[Any], device: str | torch.device | None) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    first = next(iter(model.parameters()), None)
    device = device or (first.device if first is not None else "cpu")
    training, results = model.training, []
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                x, target = (batch[0], batch[1]) if isinstance(batch, (tuple, list)) else (batch, None)
                results.append((model(x.to(device)).cpu(), target))
    finally:
        model.train(training)
    if not results:
        raise QuantizationError("there is no batch to run the model on: the data are empty")
    return results


def _epoch(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    seed: int,
    epoch: int,
    device: torch.device,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    show: Callable[[str], None],
) -> tuple[float, float]:
    """Mean loss and accuracy over the epoch, from the same forward passes that it learns from."""
    model.train()
    total = loss_sum = right = 0.0
    for step, (x, y) in enumerate(_train_batches(data, recipe, seed * 100_003 + epoch), 1):
        x, y = x.to(device), y.to(device)
        logits = model(x)  # [N, classes]
        loss = F.cross_entropy(logits, y)
        if not math.isfinite(loss.item()):
            wrong = f"the loss is {loss.item()} in epoch {epoch}, step {step}"
            raise QuantizationError(f"{wrong}: lower the learning rate (now {recipe.lr}) or check the data")
        optimizer.zero_grad()
        loss.backward()
        if recipe.clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        schedule.step()
        total += len(y)
        loss_sum += loss.item() * len(y)
        right += int((logits.detach().argmax(1) == y).sum())
        show(f"epoch {epoch}/{recipe.epochs}  loss {loss_sum / total:.4f}  accuracy {right / total:.1%}")
    return loss_sum / total, right / total


def _check_fit(model: nn.Module, data: Dataset, device: torch.device) -> None:
    """One small batch through the model, so that what does not fit is said before the training."""
    shape = [2, *data.input_shape]
    try:
        logits = predict(model, data.batches("train", 2, limit=1), device=device)
    except QuantizationError:
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        raise QuantizationError(f"the model fails on an input of shape {shape}: {' '.join(str(error).split())}") from error
    if logits.ndim != 2 or logits.shape[1] < data.num_classes:
        found = f"the model gives {list(logits.shape)} for an input of shape {shape}"
        raise QuantizationError(f"{found}, the data have {data.num_classes} classes: build it with num_classes={data.num_classes}")


def _train_batches(data: Dataset, recipe: Recipe, seed: int) -> Any:
    return data.batches("train", recipe.batch_size, shuffle=seed, augment=recipe.augment, drop_single=True)


def _rate(epochs: float, recipe: Recipe) -> float:
    """Factor of the learning rate after so many epochs: linear warm-up, then a cosine to 0."""
    warmup = min(recipe.warmup, recipe.epochs / 4)
    if epochs < warmup:
        return epochs / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (epochs - warmup) / (recipe.epochs - warmup))))


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD; no weight decay on scales, offsets, biases and batch norms (everything but weights of two or more dimensions)."""
    from .prepare import quantizers

    grids = {id(p) for quantizer in quantizers(model).values() for p in quantizer.parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise QuantizationError("the model has no parameters to train")
    decayed = [p for p in trained if p.ndim > 1 and id(p) not in grids]
    kept = [p for p in trained if p.ndim <= 1 and id(p) not in grids]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": kept, "weight_decay": 0.0},
        {"params": [p for p in trained if id(p) in grids], "weight_decay": 0.0, "lr": recipe.lr * recipe.grid_lr},
    ]
    return torch.optim.SGD([g for g in groups if g["params"]], lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True)


def _snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _progress(console: Console | None, title: str, total: int) -> AbstractContextManager[Callable[[str], None]]:
    """A context whose value is called after each step with what to show."""
    if console is None:
        return nullcontext(lambda text: None)
    from .progress import bar

    return bar(console, title, total)
