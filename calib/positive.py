"""Scales that stay positive after every step of every optimizer, in whatever loop.

A quantizer is watched from the moment it exists. torch calls one function after each step of an optimizer of its own
kind; there every scale that the optimizer has just moved is projected onto what training may reach.
"""

from __future__ import annotations

import weakref
from typing import Any, Protocol

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook


class Projected(Protocol):
    """What is watched. scale: the parameter as it is now."""

    scale: torch.nn.Parameter

    def project(self) -> None:
        """Put the scale back onto what training may reach, in place."""


_watched: weakref.WeakSet[Any] = weakref.WeakSet()


def watch(quantizer: Projected) -> None:
    """From now on, as long as it lives."""
    _watched.add(quantizer)


def _after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    if _watched:
        moved = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for quantizer in list(_watched):
            if id(quantizer.scale) in moved:
                quantizer.project()


register_optimizer_step_post_hook(_after_step)
