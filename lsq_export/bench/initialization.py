"""What the initialization by least error (`mse`) costs: its time as a share of one epoch of QAT.

    result = measure_initialization("resnet18")     # W4A4, 4 batches of 64 images of 3×32×32, an epoch of 50,000
    result.rows[0].share

In each round every variant initializes the network anew, then some training steps run on the same batch. An epoch is
extrapolated: the median step times the number of steps. The first call in a process also imports what the search needs,
and counts: seconds is the slowest call.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from calib.initialization.first_grids import WeightMethod, initialize
from lsq_export.qat.prepare_model import QATConfig, prepare

from .turns import Block, random_batches, random_network, take_turns, torch_threads, training_step

CLASSES = 10
W4A4 = QATConfig(weight_bits=4, activation_bits=4)


@dataclass(frozen=True, kw_only=True)
class InitSettings:
    """What is measured, on random images [batch, 3, size, size] on the CPU.

    batches: numbers of them to initialize from, one variant each. images: of the epoch. steps: counted training steps
    of a round, after one that is not counted.
    """

    batches: tuple[int, ...] = (4,)
    batch: int = 64
    size: int = 32
    images: int = 50_000
    config: QATConfig = W4A4
    rounds: int = 3
    steps: int = 5
    threads: int = 2


@dataclass(frozen=True, kw_only=True)
class InitCost:
    """seconds: of the slowest call; median_seconds: of the median one; share: seconds / those of the epoch."""

    batches: int
    weights: WeightMethod
    seconds: float
    median_seconds: float
    share: float


@dataclass(frozen=True, kw_only=True)
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


def measure_initialization(model: str, settings: InitSettings | None = None) -> InitSpeed:
    """Time `initialize(…, "mse")` with each number of batches, weights by either rule, and QAT steps.

    Errors (QuantizationError): an unknown model.
    """
    settings = settings or InitSettings()
    config = settings.config
    weight_methods: tuple[WeightMethod, ...] = ("lsq+", "mse")
    variants = [(count, weights) for count in settings.batches for weights in weight_methods]
    data, target = random_batches(max(settings.batches), settings.batch, settings.size, CLASSES)
    net = prepare(random_network(model, CLASSES), config)
    starts: list[Callable[[], object]] = [
        partial(initialize, net, data[:count], method="mse", weights=weights) for count, weights in variants
    ]
    step = training_step(net.train(), data[0], target)
    blocks = [*(Block(call=start) for start in starts), Block(call=step, counted=settings.steps, uncounted=1)]
    with torch_threads(settings.threads):
        *start_times, step_times = take_turns(blocks, settings.rounds)
    step_seconds = statistics.median(seconds for block in step_times for seconds in block)
    epoch_seconds = step_seconds * math.ceil(settings.images / settings.batch)
    rows = []
    for (count, weights), times in zip(variants, start_times, strict=True):
        calls = [seconds for block in times for seconds in block]
        slowest, median = max(calls), statistics.median(calls)
        share = slowest / epoch_seconds
        rows.append(InitCost(batches=count, weights=weights, seconds=slowest, median_seconds=median, share=share))
    return InitSpeed(
        model=model,
        rows=tuple(rows),
        step_ms=step_seconds * 1e3,
        epoch_seconds=epoch_seconds,
        images=settings.images,
        batch=settings.batch,
        size=settings.size,
        weight_bits=config.weight_bits,
        activation_bits=config.activation_bits,
        granularity=config.weight_granularity,
        threads=settings.threads,
        rounds=settings.rounds,
        steps=settings.steps,
        torch=torch.__version__,
    )
