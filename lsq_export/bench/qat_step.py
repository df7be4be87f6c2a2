"""What quantization-aware training costs: a step of the prepared network against the same step of the float one.

    result = measure_qat_step("resnet18")               # W4A4, per tensor, batch 16, 3×112×112, on the CPU
    result.rows[1].ratio, result.rows[1].memory_ratio   # of the QAT step to the float step: 1.2 means 20 % more

A step is forward, backward and SGD. The variants take turns in blocks of steps; the first step of a block is not
counted. spread: the lowest and the highest ratio of a block's median to that of the float block before it.

Peak memory: on the CPU the peak of all that torch's allocator handed out (parameters, gradients and momentum included),
as its profiler records it from the building of the model to the end of the third step; oneDNN's own scratch memory is
not in it. On a GPU it is torch.cuda.max_memory_allocated.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from calib.errors import QuantizationError
from calib.initialization.first_grids import initialize
from lsq_export.qat.compiled_code import check_compiled_code
from lsq_export.qat.config import QATConfig
from lsq_export.qat.fusing import fuse
from lsq_export.qat.kernels import fused_kernels
from lsq_export.qat.memory import save_memory
from lsq_export.qat.prepare_model import prepare

from .turns import Block, random_batches, random_network, take_turns, torch_threads, training_step

CLASSES = 1000
GPU_DTYPE = "bfloat16 autocast, channels_last"


@dataclass(frozen=True)
class Variant:
    """How to train: quantized or float, with fused kernels, saving memory, under torch.compile."""

    name: str
    quantized: bool = True
    fused: bool = False
    saving: bool = False
    compiled: bool = False


FLOAT = Variant("float", quantized=False)
FLOAT_COMPILED = Variant("float, torch.compile", quantized=False, compiled=True)
QAT, QAT_FUSED = Variant("qat"), Variant("qat, fused", fused=True)
CPU = (FLOAT, QAT, Variant("qat, saving memory", saving=True))
FUSED = (QAT_FUSED, Variant("qat, fused, saving memory", fused=True, saving=True))
GPU = (FLOAT, QAT, QAT_FUSED, FLOAT_COMPILED, Variant("qat, torch.compile", compiled=True))


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """What is measured, on random images [batch, 3, size, size].

    device: "cuda" is bfloat16 autocast, channels_last, with and without torch.compile. blocks: of each variant, of
    `steps` counted steps. fused: on the CPU, fused kernels as well.
    """

    device: str = "cpu"
    batch: int = 16
    size: int = 112
    blocks: int = 10
    steps: int = 3
    threads: int = 2
    fused: bool = True

    @property
    def gpu(self) -> bool:
        return self.device == "cuda"

    @property
    def variants(self) -> tuple[Variant, ...]:
        return GPU if self.gpu else CPU + (FUSED if self.fused else ())


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Median ms of a step and peak bytes, and their ratios to those of the float row, compiled if this one is.

    spread: the lowest and the highest ratio of a block.
    """

    name: str
    median_ms: float
    ratio: float
    spread: tuple[float, float]
    peak_bytes: int
    memory_ratio: float


@dataclass(frozen=True, kw_only=True)
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


def measure_qat_step(model: str, settings: StepSettings | None = None) -> QatSpeed:
    """Time alternating blocks of steps of each variant, after the peak memory of each.

    Errors (QuantizationError): no GPU, an unknown model, no compiler for fused kernels.
    """
    settings = settings or StepSettings()
    if settings.gpu and not torch.cuda.is_available():
        raise QuantizationError(
            "there is no CUDA GPU that this torch can use: run it on a machine with one, or with --device cpu"
        )
    variants, shape = settings.variants, (settings.device, settings.batch, settings.size)
    with torch_threads(settings.threads):
        peaks = [peak_bytes(model, variant, *shape) for variant in variants]
        steps = [trainer(model, variant, *shape) for variant in variants]
        for step in steps:
            step()
        blocks = [Block(call=step, counted=settings.steps, uncounted=1, gpu=settings.gpu) for step in steps]
        times = take_turns(blocks, settings.blocks)
    return QatSpeed(
        model=model,
        rows=tuple(_costs(variants, times, peaks)),
        device=torch.cuda.get_device_name() if settings.gpu else "cpu",
        batch=settings.batch,
        size=settings.size,
        threads=settings.threads,
        blocks=settings.blocks,
        steps=settings.steps,
        dtype=GPU_DTYPE if settings.gpu else "float32",
        torch=torch.__version__,
    )


def _costs(variants: Sequence[Variant], times: list[list[list[float]]], peaks: list[int]) -> list[Cost]:
    """times: seconds, [variant][block][step]. peaks: bytes of each variant."""
    costs = []
    for index, variant in enumerate(variants):
        base = next(i for i, v in enumerate(variants) if not v.quantized and v.compiled == variant.compiled)
        ratios = [statistics.median(a) / statistics.median(b) for a, b in zip(times[index], times[base], strict=True)]
        ms, base_ms = (statistics.median(t for block in times[i] for t in block) * 1e3 for i in (index, base))
        costs.append(
            Cost(
                name=variant.name,
                median_ms=ms,
                ratio=ms / base_ms,
                spread=(min(ratios), max(ratios)),
                peak_bytes=peaks[index],
                memory_ratio=peaks[index] / peaks[base],
            )
        )
    return costs


def trainer(model: str, variant: Variant, device: str, batch: int, size: int) -> Callable[[], None]:
    """A function that does one training step on the same batch each time."""
    (images,), target = random_batches(1, batch, size, CLASSES)
    x, target = images.to(device), target.to(device)
    net = random_network(model, CLASSES).to(device)
    if device == "cuda":
        x = x.contiguous(memory_format=torch.channels_last)
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch declares no such overload
    if variant.quantized:
        net = prepare(net, QATConfig(weight_bits=4, activation_bits=4))
        initialize(net, [x[:4]], method="minmax")
        save_memory(fuse(net, variant.fused), variant.saving)
    net.train()
    if variant.compiled:
        check_compiled_code()
    return training_step(net, x, target, run=torch.compile(net) if variant.compiled else net)


def peak_bytes(model: str, variant: Variant, device: str, batch: int, size: int, steps: int = 3) -> int:
    """Largest number of bytes in use at once, from the building of the model to the end of the last step."""
    if variant.fused:
        fused_kernels()  # Compiled here, so that what compiling needs is not counted.
    gc.collect()  # The variant before is garbage in cycles: freeing it later would be counted in favor of this one.
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
    events = recorded.profiler.kineto_results.events()
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    used = peak = 0
    for _, nbytes in sorted(changes, key=lambda change: change[0]):
        used += nbytes
        peak = max(peak, used)
    return peak
