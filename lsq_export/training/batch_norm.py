"""Batch norms over the samples of all ranks, so that a sharded batch trains like a whole one. (torch.nn.SyncBatchNorm
does not run on CPUs.)

    μ = Σ x / N,  σ² = Σ (x - μ)² / N,  y = γ·(x - μ)/√(σ² + ε) + β;     the sums over all ranks, forward and backward

The running variance is the unbiased σ²·N/(N - 1), as in torch.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    """Batch norms of the model use the statistics of all ranks inside this block, in training mode;

    with one process nothing changes.
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
    """Sum over the ranks. Every rank's loss depends on every rank's x, so the gradient is the sum of the ranks'
    gradients.
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


def _forward(norm: _BatchNorm, x: torch.Tensor) -> torch.Tensor:
    """x: [N, C, …]"""
    if not norm.training:
        return type(norm).forward(norm, x)
    axes = [0, *range(2, x.dim())]
    shape = (1, -1, *[1] * (x.dim() - 2))
    numel = x.numel() // x.shape[1]
    first = _Sum.apply(torch.cat((x.sum(axes), x.new_tensor([numel]))))  # [C + 1]
    count, mean = first[-1].detach(), first[:-1] / first[-1].detach()
    centered = x - mean.view(shape)
    variance = _Sum.apply(centered.square().sum(axes)) / count  # [C]
    if (
        norm.track_running_stats
        and norm.running_mean is not None
        and norm.running_var is not None
        and norm.num_batches_tracked is not None
    ):
        norm.num_batches_tracked.add_(1)
        share = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        with torch.no_grad():
            norm.running_mean.lerp_(mean.detach().to(norm.running_mean.dtype), share)
            norm.running_var.lerp_((variance.detach() * count / (count - 1)).to(norm.running_var.dtype), share)
    scaled = centered * (variance + norm.eps).rsqrt().view(shape)
    return scaled if norm.weight is None else scaled * norm.weight.view(shape) + norm.bias.view(shape)
