"""Logits and accuracy of a model on batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from calib.errors import QuantizationError, one_line
from calib.samples import called, each, in_words
from lsq_export.data.dataset import Dataset

from .distributed import SINGLE, Processes

TEST_BATCH = 256  # samples of one batch of a test


def predict(model: nn.Module, batches: Iterable[Any], *, device: str | torch.device | None = None) -> torch.Tensor:
    """Logits [samples, classes] on the CPU, in eval mode, without gradients.

    batches: input tensors or (input, target) pairs.
    """
    return torch.cat([logits for logits, _ in _forward(model, batches, device)])


def evaluate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    device: str | torch.device | None = None,
    processes: Processes = SINGLE,
) -> float:
    """Top-1 accuracy, 0-1, in eval mode.

    batches: (input, target) pairs.
    processes: each has its share of the batches; the result is that of all of them.

    Errors (QuantizationError): batches without targets, no batch at all.
    """
    right = total = 0.0
    for logits, target in _forward(model, batches, device, some=processes.world == 1):
        if target is None:
            raise QuantizationError("accuracy needs (input, target) pairs: the batches hold inputs only")
        right += int((logits.argmax(1) == target).sum())
        total += len(target)
    right, total = processes.sums(right, total)
    return right / total


def check_fit(model: nn.Module, data: Dataset, device: torch.device) -> None:
    """Run the model on one small batch, so that what does not fit is said before the training.

    Errors (QuantizationError): the model fails on it, or has fewer logits than the data have classes.
    """
    shape = in_words(data.input_shape)
    try:
        logits = predict(model, data.batches("train", 2, limit=1), device=device)
    except QuantizationError:
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        raise QuantizationError(
            f"the model fails on a batch of two inputs of shape {shape}: {one_line(error)}"
        ) from error
    if logits.ndim != 2 or logits.shape[1] < data.num_classes:
        raise QuantizationError(
            f"the model gives {list(logits.shape)} for two inputs of shape {shape}, the data have {data.num_classes} "
            f"classes: build it with num_classes={data.num_classes}"
        )


def _forward(
    model: nn.Module, batches: Iterable[Any], device: str | torch.device | None, some: bool = True
) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """(logits, target) of each batch. some: no batch at all is an error."""
    first = next(iter(model.parameters()), None)
    device = device or (first.device if first is not None else "cpu")
    training, results = model.training, []
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                x, target = (batch[0], batch[1]) if isinstance(batch, (tuple, list)) else (batch, None)
                if some or len(x):  # a share may be empty
                    x = each(x, lambda tensor: tensor.to(device))
                    results.append((called(model, x).cpu(), target))
    finally:
        model.train(training)
    if some and not results:
        raise QuantizationError("there is no batch to run the model on: the data are empty")
    return results
