"""The samples that reconstruction learns from, in batches that the network takes as it takes one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from calib.initialization.first_grids import evaluating
from calib.quantized import bypassed
from calib.samples import Input, called, each, numbers_of
from lsq_export.graph.results import named_outputs

from .kept_samples import KeptSamples

SAMPLES = 256  # that are learned from, at most
BATCH = 4  # samples of a step: many short steps reach more than a few long ones; fewer of large inputs
NUMBERS = 2**20  # input numbers of a step, at most
NEAR = 1e-3  # of the largest output: far more than kernels round otherwise in a batch


def kept_batches(samples: Iterable[Input], model: nn.Module, *, one: bool = False) -> list[Any]:
    """At most SAMPLES of the samples, [1, …] each; in batches, unless the network takes one at a time.

    one: it is known to do so. It is tried as well: a file may say that its batch is open, and flatten it.
    """
    kept = KeptSamples(SAMPLES)
    for sample in samples:
        kept.look(sample)
    ones = kept.batches(1)
    if one or not ones:
        return ones
    batches = kept.batches(max(1, min(BATCH, NUMBERS // max(1, numbers_of(ones[0])))))
    return batches if _takes(model, batches[0], ones[0]) else ones


@torch.no_grad()
def _takes(model: nn.Module, batch: Input, first: Input) -> bool:
    """Whether the float network makes of the first sample what it makes of it in the batch."""
    place = next(model.parameters()).device
    with bypassed(model), evaluating(model):
        try:
            together, alone = (
                list(named_outputs(called(model, each(x, lambda tensor: tensor.to(place)))).values())
                for x in (batch, first)
            )
        except Exception:  # a user's forward can raise anything; with one sample it says what is wrong
            return False
    return all(_same(a, b, len(batch)) for a, b in zip(together, alone, strict=True))


def _same(together: torch.Tensor, alone: torch.Tensor, count: int) -> bool:
    if not (together.dim() and alone.dim() and len(together) == count and len(alone) == 1):
        return False
    if not together.is_floating_point():
        return torch.equal(together[:1], alone)
    return bool(((together[:1] - alone).abs() <= NEAR * alone.abs().max()).all())
