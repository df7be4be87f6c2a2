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
# Of each optimizer: ids of its parameters, and what is watched among them, looked through once and not at each step.
_found: weakref.WeakKeyDictionary[Optimizer, tuple[frozenset[int], weakref.WeakSet[Any]]] = weakref.WeakKeyDictionary()


def watch(quantizer: Projected) -> None:
    """From now on, as long as it lives."""
    _watched.add(quantizer)
    _found.clear()


def _after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    if not _watched:
        return
    moved = frozenset(id(parameter) for group in optimizer.param_groups for parameter in group["params"])
    known = _found.get(optimizer)
    if known is None or known[0] != moved:
        quantizers = weakref.WeakSet(quantizer for quantizer in list(_watched) if id(quantizer.scale) in moved)
        known = _found[optimizer] = moved, quantizers
    for quantizer in list(known[1]):
        if id(quantizer.scale) in moved:  # it may have another one since then
            quantizer.project()


register_optimizer_step_post_hook(_after_step)
