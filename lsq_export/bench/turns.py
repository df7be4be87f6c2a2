"""The measuring protocol of `qat-speed` and `init-speed`.

What is compared takes turns in blocks of one process, so that what else the machine does falls on all of it; on the
same random images and first weights each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lsq_export import models


@dataclass(frozen=True, kw_only=True)
class Block:
    """What one turn runs: `call`, first `uncounted` times, then `counted` times. gpu: wait for the GPU to be done."""

    call: Callable[[], object]
    counted: int = 1
    uncounted: int = 0
    gpu: bool = False

    def seconds(self) -> list[float]:
        """The time of each counted call."""
        for _ in range(self.uncounted):
            self.call()
        return [self._time() for _ in range(self.counted)]

    def _time(self) -> float:
        self._wait()
        start = time.perf_counter()
        self.call()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()


def take_turns(blocks: Sequence[Block], rounds: int) -> list[list[list[float]]]:
    """Run every block once a round; seconds of each counted call: [block][round][call]."""
    times: list[list[list[float]]] = [[] for _ in blocks]
    for _ in range(rounds):
        for seconds, block in zip(times, blocks, strict=True):
            seconds.append(block.seconds())
    return times


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Give torch `count` threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def random_network(model: str, classes: int) -> nn.Module:
    """A network of `lsq_export.models.build` with the same random weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net: nn.Module = models.build(model, num_classes=classes)
    return net


def random_batches(count: int, batch: int, size: int, classes: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """(`count` batches of images [batch, 3, size, size], labels [batch] for any of them), the same each time."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(batch, 3, size, size, generator=generator) for _ in range(count)]
    return images, torch.randint(0, classes, (batch,), generator=generator)


def training_step(
    net: nn.Module, x: torch.Tensor, target: torch.Tensor, *, run: Callable[..., Any] | None = None
) -> Callable[[], None]:
    """A function that does forward, backward and SGD on one batch; on a GPU under bfloat16 autocast.

    run: what to call in place of net.
    """
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    call = net if run is None else run  # `or` would ask a compiled module for its length

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=x.is_cuda):
            loss = nn.functional.cross_entropy(call(x), target)
        torch.autograd.backward(loss)
        optimizer.step()

    return step
