"""The samples that reconstruction learns from, in batches that the network takes as it takes one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from calib.initialization.first_grids import evaluating
from calib.quantized import bypassed
from calib.samples import Input, called, each, numbers_of, tensors_of
from lsq_export.graph.results import named_outputs
from lsq_export.ptq.graph_network import GraphNetwork

from .kept_samples import KeptSamples

SAMPLES = 256  # that are learned from, at most
# Samples of a step, and looks at a sample for each block. Many short steps reach more than a few long ones, but each of
# them moves all weights. Where those are more than MANY for each input number (images are small, and QAT takes little
# time as well), a few steps must do.
FEW, LOOKS = 4, 512
BATCH, BATCH_LOOKS, MANY = 32, 256, 400
BATCHES = 8  # at least, if samples are few
STEPS = 256  # at most, where batches are smaller than FEW
ROW = 512  # numbers that an integer among the inputs stands for, which reads a row of a table
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
    size = min(BATCH, max(FEW, len(ones) // BATCHES)) if _weights_of(model) > MANY * _numbers(ones[0]) else FEW
    batches = kept.batches(max(1, min(size, NUMBERS // max(1, numbers_of(ones[0])))))
    return batches if _takes(model, batches[0], ones[0]) else ones


def steps_of(size: int) -> int:
    """How many steps a block is learned for, in batches of so many samples."""
    return min(STEPS, (LOOKS if size <= FEW else BATCH_LOOKS) // size)


def _weights_of(model: nn.Module) -> int:
    """How many weights a network has, in modules or as constants of a graph."""
    constants = model.model.graph.initializers.values() if isinstance(model, GraphNetwork) else ()
    of_graph = sum(value.const_value.size for value in constants if value.const_value is not None)
    return of_graph + sum(parameter.numel() for parameter in model.parameters())


def _numbers(sample: Input) -> int:
    return sum(x.numel() * (1 if x.is_floating_point() else ROW) for x in tensors_of(sample))


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
