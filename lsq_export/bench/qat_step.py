"""What quantization-aware training costs: one step (forward, backward, SGD) of the prepared network against the same
step of the float one.

    result = measure("resnet18")                    # W4A4, per tensor, batch 16, 3×112×112, on the CPU
    result.rows[1].ratio, result.rows[1].memory_ratio

The variants take turns in blocks of steps in one process, so that what else the machine does falls on all of them; the
first step of a block is not counted. spread: the lowest and the highest ratio of a block's median to that of the float
block before it.

Peak memory: on the CPU the peak of all that torch's allocator handed out (parameters, gradients and momentum included),
as its profiler records it from the building of the model to the end of the third step; oneDNN's own scratch memory is
not in it. On a GPU torch.cuda.max_memory_allocated."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from calib.errors import QuantizationError
from calib.initialization.first_grids import initialize
from lsq_export import models
from lsq_export.qat.config import QATConfig
from lsq_export.qat.fusing import fuse
from lsq_export.qat.kernels import fused_kernels
from lsq_export.qat.memory import save_memory
from lsq_export.qat.prepare_model import prepare

CLASSES = 1000


@dataclass(frozen=True)
class Variant:
    """How to train: quantized or float, with fused kernels, saving memory, under torch.compile."""

    name: str
    quantized: bool = True
    fused: bool = False
    saving: bool = False
    compiled: bool = False


FLOAT, FLOAT_COMPILED = (
    Variant("float", quantized=False),
    Variant("float, torch.compile", quantized=False, compiled=True),
)
CPU = (FLOAT, Variant("qat"), Variant("qat, saving memory", saving=True))
FUSED = (Variant("qat, fused", fused=True), Variant("qat, fused, saving memory", fused=True, saving=True))
GPU = (
    FLOAT,
    Variant("qat"),
    Variant("qat, fused", fused=True),
    FLOAT_COMPILED,
    Variant("qat, torch.compile", compiled=True),
)


@dataclass(frozen=True)
class Cost:
    """Median ms of a step, its ratio to the float row of the same kind (compiled or not) and that ratio's spread over
    blocks; peak bytes, ratio.
    """

    name: str
    median_ms: float
    ratio: float
    spread: tuple[float, float]
    peak_bytes: int
    memory_ratio: float


@dataclass(frozen=True)
class QatSpeed:
    """Rows in the order of the variants, and under which conditions they were measured."""

    model: str
    rows: tuple[Cost, ...]
    device: str
    batch: int
    size: int
    threads: int
    blocks: int
    steps: int
    dtype: str
    torch: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def measure(
    model: str,
    *,
    device: str = "cpu",
    batch: int = 16,
    size: int = 112,
    blocks: int = 10,
    steps: int = 3,
    threads: int = 2,
    fused: bool = True,
) -> QatSpeed:
    """Time `blocks` alternating blocks of `steps` counted steps of each variant, on random images [batch, 3, size,
    size].

    device "cuda": bfloat16 autocast, channels_last, with and without torch.compile. fused: on the CPU, fused kernels as
    well. Errors (QuantizationError): no GPU, an unknown model, no compiler for fused kernels."""
    gpu = device == "cuda"
    if gpu and not torch.cuda.is_available():
        raise QuantizationError(
            "there is no CUDA GPU that this torch can use: run it on a machine with one, or with --device cpu"
        )
    variants = GPU if gpu else CPU + (FUSED if fused else ())
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        peaks = [peak_bytes(model, variant, device, batch, size) for variant in variants]
        trainers = [trainer(model, variant, device, batch, size) for variant in variants]
        times = _alternate(variants, trainers, blocks, steps, gpu)
    finally:
        torch.set_num_threads(before)
    rows = []
    for index, variant in enumerate(variants):
        base = next(i for i, v in enumerate(variants) if not v.quantized and v.compiled == variant.compiled)
        ratios = [statistics.median(a) / statistics.median(b) for a, b in zip(times[index], times[base], strict=True)]
        ms, base_ms = (statistics.median(t for block in times[i] for t in block) * 1e3 for i in (index, base))
        rows.append(
            Cost(variant.name, ms, ms / base_ms, (min(ratios), max(ratios)), peaks[index], peaks[index] / peaks[base])
        )
    name, dtype = (torch.cuda.get_device_name(), "bfloat16 autocast, channels_last") if gpu else ("cpu", "float32")
    return QatSpeed(model, tuple(rows), name, batch, size, threads, blocks, steps, dtype, torch.__version__)


def trainer(model: str, variant: Variant, device: str, batch: int, size: int) -> Callable[[], None]:
    """A function that does one training step on the same batch each time."""
    gpu = device == "cuda"
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, size, size, generator=generator).to(device)
    target = torch.randint(0, CLASSES, (batch,), generator=generator).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = models.build(model, num_classes=CLASSES).to(device)
    if gpu:
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    if variant.quantized:
        net = prepare(net, QATConfig(weight_bits=4, activation_bits=4))
        initialize(net, [x[:4]], method="minmax")
        save_memory(fuse(net, variant.fused), variant.saving)
    net.train()
    return training_step(net, x, target, run=torch.compile(net) if variant.compiled else net)


def training_step(
    net: nn.Module, x: torch.Tensor, target: torch.Tensor, *, run: Callable[..., Any] | None = None
) -> Callable[[], None]:
    """Forward, backward, SGD on one batch. run: what to call in place of net. On a GPU under bfloat16 autocast."""
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    call = net if run is None else run  # `or` would ask a compiled module for its length

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=x.is_cuda):
            loss = nn.functional.cross_entropy(call(x), target)
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def peak_bytes(model: str, variant: Variant, device: str, batch: int, size: int, steps: int = 3) -> int:
    """Largest number of bytes in use at once, from the building of the model to the end of the last step."""
    if variant.fused:
        fused_kernels()  # compiled here, so that what compiling needs is not counted
    gc.collect()  # the variant before is garbage in cycles: freeing it later would be counted against this one
    if device == "cuda":
        torch.cuda.empty_cache()
        start = torch.cuda.memory_allocated()
        step = trainer(model, variant, device, batch, size)
        step()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(steps):
            step()
        return torch.cuda.max_memory_allocated() - start
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step = trainer(model, variant, device, batch, size)
        for _ in range(steps):
            step()
    assert recorded.profiler is not None and recorded.profiler.kineto_results is not None
    events = [
        (event.start_ns(), event.nbytes())
        for event in recorded.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    used = peak = 0
    for _, nbytes in sorted(events, key=lambda event: event[0]):
        used += nbytes
        peak = max(peak, used)
    return peak


def _alternate(
    variants: tuple[Variant, ...], trainers: list[Callable[[], None]], blocks: int, steps: int, gpu: bool
) -> list[list[list[float]]]:
    """Seconds of each counted step: [variant][block][step]."""
    for step in trainers:
        step()
    times: list[list[list[float]]] = [[] for _ in variants]
    for _ in range(blocks):
        for index, step in enumerate(trainers):
            step()
            counted = []
            for _ in range(steps):
                _wait(gpu)
                start = time.perf_counter()
                step()
                _wait(gpu)
                counted.append(time.perf_counter() - start)
            times[index].append(counted)
    return times


def _wait(gpu: bool) -> None:
    if gpu:
        torch.cuda.synchronize()
