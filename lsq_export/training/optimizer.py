"""Optimizer and learning-rate schedule of a recipe, from torch.optim."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from lsq_export.qat.groups import parameter_groups

from .recipe import Recipe

BETA2 = 0.999
CYCLE = 0.1  # one-cycle: momentum falls by this while lr rises (arXiv:1708.07120, 0.95 to 0.85)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with Nesterov's momentum, or AdamW."""
    groups = parameter_groups(
        model,
        recipe.lr,
        weight_decay=recipe.weight_decay,
        grid_lr=recipe.grid_lr,
        offset_lr=recipe.offset_lr,
    )
    if recipe.optimizer == "adam":
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.momentum, BETA2), fused=True)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True)


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int) -> lr_scheduler.LRScheduler:
    """The schedule, which takes one step after each of the optimizer. steps: how many an epoch has."""
    if recipe.schedule == "cosine":
        return lr_scheduler.LambdaLR(optimizer, lambda step: rate((step + 1) / steps, recipe))
    return lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=recipe.epochs * steps,
        cycle_momentum=recipe.momentum > 0,
        max_momentum=recipe.momentum,
        base_momentum=max(0.0, recipe.momentum - CYCLE),
    )


def rate(epochs: float, recipe: Recipe) -> float:
    """The factor on the learning rate after this many epochs: linear warm-up, then a cosine to 0."""
    warmup = min(recipe.warmup, recipe.epochs / 4)
    if epochs < warmup:
        return epochs / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (epochs - warmup) / (recipe.epochs - warmup))))


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """({"<parameter>.<name>": tensor}, settings of each group as plain values), for `restore_optimizer`."""
    state = optimizer.state_dict()
    tensors = {
        f"{i}.{name}": t
        for i, values in state["state"].items()
        for name, t in values.items()
        if isinstance(t, torch.Tensor)
    }
    groups = [{name: value for name, value in group.items() if name != "params"} for group in state["param_groups"]]
    return tensors, groups


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], groups: list[dict[str, Any]]
) -> None:
    """The inverse of `optimizer_state`.

    A buffer gets the memory format of its parameter: fused kernels walk both in the order of memory.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        like = parameters[int(index)]
        state.setdefault(int(index), {})[name] = (
            torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape and tensor.dim() else tensor
        )
    kept = [{"params": group["params"]} for group in optimizer.state_dict()["param_groups"]]
    restored = [{**group, **ids} for group, ids in zip(groups, kept, strict=True)]
    for group in restored:
        if "betas" in group:
            group["betas"] = tuple(group["betas"])
    optimizer.load_state_dict({"state": state, "param_groups": restored})
