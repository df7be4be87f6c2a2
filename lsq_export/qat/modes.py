"""Training or eval: a graph is made of a model in eval mode, and whatever asks which mode it is, is noted."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

from calib.errors import warn

from .user_code import is_library, place_in

NORMS = nn.modules.batchnorm._BatchNorm  # their function gets the mode


class Training(int):
    """A module's `training`, which is False while it is watched, so that dropout can be told from none at all.

    asked: lines of the user's code that branched on it. before: what it is when the model isn't watched.
    """

    asked: set[str]
    before: bool

    @classmethod
    def of(cls, module: nn.Module, asked: set[str]) -> Training:
        """What takes the place of a module's mode."""
        flag = cls(0)
        flag.before = module.training
        flag.asked = set() if isinstance(module, NORMS) else asked
        return flag

    def __bool__(self) -> bool:
        frame = sys._getframe(1)
        if not is_library(frame):
            self.asked.add(place_in(frame))
        return False


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """After this block every module is in the mode that it was in before."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def in_eval(model: nn.Module, asked: set[str]) -> Iterator[None]:
    """Within this block all modules are in eval mode, and lines that branch on it are added to `asked`."""
    with modes_kept(model):
        for module in model.modules():
            module.__dict__["training"] = Training.of(module, asked)
        yield


def warn_of_branches(asked: Iterable[str]) -> None:
    """asked: lines of the user's code that branch on self.training."""
    lines = sorted(asked)
    if lines:
        warn(
            f"the forward branches on self.training ({', '.join(lines[:3])}): the prepared copy does in training, too, "
            "what it does in eval mode"
        )
