"""The accuracy that a checkpoint says it has: trainings keep it beside the weights, under many names.

{"epoch": 90, "state_dict": {…}, "best_acc1": tensor(76.1)}  ->  Stated("best_acc1", 0.761)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lsq_export.files.weights_file import read

from .checkpoint import is_checkpoint
from .checkpoint_header import fields_of, metadata_of

_WHEN = r"best|max|final|test|val|valid|validation|eval|ema"
# Names without what is no letter or digit: best_acc1, val_accuracy, top1, prec@1; not acc5, train_acc, accumulated.
_NAME = re.compile(rf"({_WHEN})*(top1|(top1?)?(acc|accuracy|prec|precision)(1|top1)?)({_WHEN})*", re.IGNORECASE)
_TIMM = "metric"
_DEPTH = 2  # of dictionaries in each other


@dataclass(frozen=True)
class Stated:
    """What a file says. name: the key. accuracy: 0-1."""

    name: str
    accuracy: float

    def __str__(self) -> str:
        return f"the file says {self.name} {self.accuracy:.2%}"


def own_accuracy(path: Path) -> Stated | None:
    """The accuracy of a file that can be read; the best one, where it has several. None: it says none."""
    if is_checkpoint(path):
        extra = fields_of(path, metadata_of(path)).get("extra")
        content: Any = {"test_accuracy": extra.get("test_accuracy")} if isinstance(extra, dict) else {}
    else:
        content = read(path)[0]
    found = [*_found(content), *_found_by_timm(content)]
    best = [stated for stated in found if "best" in stated.name.lower()]
    return max(best or found, key=lambda stated: stated.accuracy, default=None)


def _found(content: Any, depth: int = 0) -> Iterator[Stated]:
    if not isinstance(content, Mapping) or depth > _DEPTH:
        return
    for key, value in content.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, Mapping):
            yield from _found(value, depth + 1)
        elif _NAME.fullmatch(re.sub(r"[^a-zA-Z0-9]", "", key)) and (number := _number(value)) is not None:
            yield Stated(key, number)


def _found_by_timm(content: Any) -> Iterator[Stated]:
    """timm's script keeps top-1 in percent as `metric`, beside the weights.

    Up to 1 it would be another program's share or a loss, and is left alone.
    """
    if isinstance(content, Mapping) and "state_dict" in content:
        percents = _number(content.get(_TIMM), unit=100)
        if percents is not None and percents > 0.01:
            yield Stated(_TIMM, percents)


def _number(value: Any, unit: float | None = None) -> float | None:
    """A share or percents, as 0-1; None for what is neither. unit: what to divide by; None: by 100 what is above 1."""
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        value = value.item() if np.prod(tuple(value.shape)) == 1 else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 100:
        return None
    return float(value / (unit or (1 if value <= 1 else 100)))
