"""What the initialization by least error (`mse`) costs: its time as a share of one epoch of QAT.

    result = measure("resnet18")        # W4A4, 4 batches of 64 images of 3×32×32; the epoch has 50,000 of them
    result.rows[0].share

In each round, in one process, every variant initializes the network anew, then some training steps run on the same
batch. An epoch is extrapolated: the median step times the number of steps. The first call in a process also imports
what the search needs, and counts: seconds is the slowest call."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from calib.initialization.first_grids import WeightMethod, initialize
from lsq_export import models
from lsq_export.qat.prepare_model import QATConfig, prepare

from .qat_step import training_step

CLASSES = 10


@dataclass(frozen=True)
class InitCost:
    """seconds: of the slowest call; median_seconds; share: seconds / those of the epoch."""

    batches: int
    weights: WeightMethod
    seconds: float
    median_seconds: float
    share: float


@dataclass(frozen=True)
class InitSpeed:
    """Rows, the epoch that they are compared with, and under which conditions they were measured."""

    model: str
    rows: tuple[InitCost, ...]
    step_ms: float
    epoch_seconds: float
    images: int
    batch: int
    size: int
    weight_bits: int
    activation_bits: int
    granularity: str
    threads: int
    rounds: int
    steps: int
    torch: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def measure(
    model: str,
    *,
    batches: tuple[int, ...] = (4,),
    batch: int = 64,
    size: int = 32,
    images: int = 50_000,
    config: QATConfig | None = None,
    rounds: int = 3,
    steps: int = 5,
    threads: int = 2,
) -> InitSpeed:
    """Time `initialize(…, "mse")` with each number of batches, weights by either rule, and QAT steps, on random images
    [batch, 3, size, size].

    steps: counted ones of a round, behind one that is not. Runs on the CPU. Errors (QuantizationError): an unknown
    model."""
    config = config or QATConfig(weight_bits=4, activation_bits=4)
    variants: list[tuple[int, WeightMethod]] = [(count, weights) for count in batches for weights in ("lsq+", "mse")]
    generator = torch.Generator().manual_seed(0)
    data = [torch.randn(batch, 3, size, size, generator=generator) for _ in range(max(batches))]
    target = torch.randint(0, CLASSES, (batch,), generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = prepare(models.build(model, num_classes=CLASSES), config)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    times: list[list[float]] = [[] for _ in variants]
    step_times: list[float] = []
    try:
        for _ in range(rounds):
            for (count, weights), seconds in zip(variants, times, strict=True):
                start = time.perf_counter()
                initialize(net, data[:count], method="mse", weights=weights)
                seconds.append(time.perf_counter() - start)
            step_times += _steps(net, data[0], target, steps + 1)[1:]
    finally:
        torch.set_num_threads(before)
    step = statistics.median(step_times)
    epoch = step * math.ceil(images / batch)
    rows = tuple(
        InitCost(*v, max(t), statistics.median(t), max(t) / epoch) for v, t in zip(variants, times, strict=True)
    )
    bits = config.weight_bits, config.activation_bits, config.weight_granularity
    return InitSpeed(
        model, rows, step * 1e3, epoch, images, batch, size, *bits, threads, rounds, steps, torch.__version__
    )


def _steps(net: nn.Module, x: torch.Tensor, target: torch.Tensor, count: int) -> list[float]:
    """Seconds of each training step."""
    step, times = training_step(net.train(), x, target), []
    for _ in range(count):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times
