"""Batch norms over the samples of all ranks, so that a sharded batch trains like a whole one.

    μ = Σ x / N,  σ² = Σ (x - μ)² / N,  y = γ·(x - μ)/√(σ² + ε) + β

The sums go over all ranks, forward and backward. The running variance is the unbiased σ²·N/(N - 1), as in torch.
(torch.nn.SyncBatchNorm does not run on CPUs.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .distributed import Processes


@contextmanager
def synchronized(model: nn.Module, processes: Processes) -> Iterator[None]:
    """Have the batch norms of the model use the statistics of all ranks inside this block, in training mode.

    With one process nothing changes.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)] if processes.world > 1 else []
    try:
        for norm in norms:
            norm.__dict__["forward"] = partial(_forward, norm)
        yield
    finally:
        for norm in norms:
            norm.__dict__.pop("forward", None)


class _Sum(torch.autograd.Function):
    """The sum over the ranks.

    Every rank's loss depends on every rank's x, so the gradient is the sum of the ranks' gradients.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


_sum: Callable[[torch.Tensor], torch.Tensor] = _Sum.apply


def _forward(norm: _BatchNorm, x: torch.Tensor) -> torch.Tensor:
    """The forward of a batch norm, for x [N, C, …]."""
    if not norm.training:
        plain: torch.Tensor = type(norm).forward(norm, x)
        return plain
    axes = [0, *range(2, x.dim())]
    shape = (1, -1, *[1] * (x.dim() - 2))
    numel = x.numel() // x.shape[1]
    first = _sum(torch.cat((x.sum(axes), x.new_tensor([numel]))))  # [C + 1]
    count, mean = first[-1].detach(), first[:-1] / first[-1].detach()
    centered = x - mean.view(shape)
    variance = _sum(centered.square().sum(axes)) / count  # [C]
    _track(norm, mean.detach(), variance.detach() * count / (count - 1))
    scaled = centered * (variance + norm.eps).rsqrt().view(shape)
    return scaled if norm.weight is None else scaled * norm.weight.view(shape) + norm.bias.view(shape)


@torch.no_grad()
def _track(norm: _BatchNorm, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Move the running statistics of a batch norm towards these, [C], where it has any."""
    running_mean, running_var, batches = norm.running_mean, norm.running_var, norm.num_batches_tracked
    if not norm.track_running_stats or running_mean is None or running_var is None or batches is None:
        return
    batches.add_(1)
    share = 1.0 / float(batches) if norm.momentum is None else norm.momentum
    running_mean.lerp_(mean.to(running_mean.dtype), share)
    running_var.lerp_(variance.to(running_var.dtype), share)
