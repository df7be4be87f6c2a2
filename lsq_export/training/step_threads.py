"""The number of threads of a training, by the size of its steps.

Small steps do not gain by threads that have to meet after every operator, and on a busy machine they lose much; see
`lsq_export.threads`. The number depends on the network, the batch and the cores alone, not on what else the machine
does: it can change the last bits of a training, so the same command has to choose the same one again.
"""

from __future__ import annotations

import torch
from torch import nn

from calib.samples import Input, called
from lsq_export.data.dataset import Dataset
from lsq_export.models import build
from lsq_export.threads import usual_threads

from .job_settings import Job

# Multiply-adds of the forward pass of a step that each thread should have. With two threads on two idle cores, `tiny`
# (30 million a step of 64 digits) takes 0.7 of the time of one thread, and beside four busy processes the double; a
# ResNet-18 (2.4 billion) takes half the time.
PER_THREAD = 100_000_000


def step_threads(job: Job, data: Dataset) -> int:
    """The threads of a job that leaves the number open: 1 for small steps, all that torch may use for large ones."""
    most = usual_threads()
    if most == 1:
        return 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        model = build(**job.model_spec(data))
    work = multiply_adds(model, data.train.fetch(torch.zeros(1, dtype=torch.int64))[0])
    if work is None:
        return most
    batch = min(job.recipe.batch_size, len(data.train))
    return max(1, min(most, work * batch // PER_THREAD))


def multiply_adds(model: nn.Module, x: Input) -> int | None:
    """Those of the convolutions and linear layers for an input [1, …]; None where the model does not take it."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        total += output.numel() * (weight.numel() // weight.shape[0])

    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    training = model.training
    try:
        with torch.no_grad():
            called(model.eval(), x)
    except Exception:  # a model of the user's: what is wrong with it is said when it is to be trained
        return None
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return total
