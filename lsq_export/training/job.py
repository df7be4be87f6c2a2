"""The training side of the pipeline as one job: data -> float model -> prepare -> initialize -> QAT -> checkpoint.

job = Job("resnet18", "digits", QATConfig(weight_bits=4, activation_bits=4))
data = job.load_data()
float_phase = train_float(job, data)
low_bit = train_low_bit(job, data, float_phase.model, out=Path("r18.safetensors"))
low_bit.accuracy, low_bit.initialized_accuracy

With a `training.run.Run` both phases can be interrupted at any moment and resumed to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import calib
from calib import drift
from calib.errors import QuantizationError
from lsq_export.data.dataset import Dataset
from lsq_export.data.loading import load
from lsq_export.models import build, keywords
from lsq_export.progress import optional_bar
from lsq_export.qat.config import QATConfig
from lsq_export.qat.fusing import fuse
from lsq_export.qat.memory import save_memory
from lsq_export.qat.prepare_model import prepare, quantizers

from . import checkpoint
from .distributed import SINGLE, Processes
from .fit import FINETUNE, PRETRAIN, Epoch, Recipe, TrainResult, evaluate, finetune, pretrain
from .run import Run

if TYPE_CHECKING:
    from rich.console import Console

FLOAT, LOW_BIT = "float", "low-bit"  # the phases
RECORDED = 4  # batches of the train split that the record of `calib.drift` is made from, after every epoch


@dataclass(frozen=True)
class Job:
    """Everything that decides the result. A recipe with 0 epochs skips that phase. device: None is CUDA where there is
    one.

    fused: low-bit training with the kernels of `fake_quantize.fuse`, which add gradients of scales and offsets in
    another order. save_memory: low-bit training as in `memory.save_memory`, slower, to the same bits."""

    model_name: str
    data_spec: str
    config: QATConfig = field(default_factory=QATConfig)
    float_recipe: Recipe = PRETRAIN
    recipe: Recipe = FINETUNE
    init_method: Any = "mse"
    weight_init: Any = "lsq+"
    init_batches: int = 4
    image_size: int | None = None
    seed: int = 0
    device: str | None = None
    fused: bool = False
    save_memory: bool = False

    def __post_init__(self) -> None:
        try:
            torch.empty(0, device=self.device or "cpu")
        except (RuntimeError, AssertionError) as error:
            raise QuantizationError(
                f"device {self.device!r} is not available here: use cpu, or leave it out"
            ) from error
        if self.float_recipe.distill:
            raise QuantizationError(
                "distill is for low-bit training, whose teacher the float model is: leave it out of the float recipe"
            )

    def load_data(self) -> Dataset:
        """The data set of `data_spec`."""
        return load(self.data_spec, image_size=self.image_size)

    def identity(self, data: Dataset, start: Path | None = None, processes: Processes = SINGLE) -> dict[str, Any]:
        """What a run must have in common with the one that it resumes, as plain values.

        start: the float checkpoint that it starts from.
        """
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        samples = {
            "train": len(data.train),
            "test": len(data.test),
            "input_shape": list(data.input_shape),
            "classes": data.num_classes,
        }
        place = str(torch.device(device)) if processes.world == 1 else str(processes.device).partition(":")[0]
        return {
            **asdict(self),
            "device": place,
            "float_checkpoint": start and str(start),
            "nproc_per_node": processes.world,
            "data": samples,
        }

    def model_spec(self, data: Dataset) -> dict[str, Any]:
        """Keywords of `models.build`."""
        adapted = keywords(self.model_name, min(data.input_shape[1:]))
        return {"name": self.model_name, "num_classes": data.num_classes, "in_channels": data.input_shape[0], **adapted}


@dataclass(frozen=True)
class FloatPhase:
    """The float model and its accuracy on the test split, 0-1. epochs: those trained here."""

    model: nn.Module
    accuracy: float
    epochs: tuple[Epoch, ...]


@dataclass(frozen=True)
class LowBitPhase:
    """The fake-quant model;

    its accuracy on the test split, 0-1, right after initialization and at the end. interrupted: by Ctrl-C.
    """

    model: nn.Module
    initialized_accuracy: float
    accuracy: float
    epochs: tuple[Epoch, ...]
    interrupted: bool


def train_float(
    job: Job,
    data: Dataset,
    *,
    start: Path | None = None,
    out: Path | None = None,
    console: Console | None = None,
    run: Run | None = None,
    processes: Processes = SINGLE,
) -> FloatPhase:
    """Train a float model, or read it from the checkpoint `start`. out: checkpoint to write. run: keeps states and
    resumes from them. processes: all of them call this; out and console are for the first.

    Errors: KeyboardInterrupt (after writing the last completed epoch to `out`), QuantizationError.
    """
    if run is not None and run.saved is not None and run.saved.phase == LOW_BIT:
        return _passed(job, data, run)
    epochs: tuple[Epoch, ...] = ()
    if start is not None:
        model = _restore_float(job, data, start)
    else:
        model = _fresh(job, data)
        if job.float_recipe.epochs:
            options = _options(job, run, FLOAT, processes)
            result = pretrain(model, data, recipe=job.float_recipe, console=console, **options)
            epochs = result.epochs
            if result.interrupted:
                if epochs and out is not None:
                    _save(out, job, data, model, None, epochs)
                raise KeyboardInterrupt
    if out is not None:
        _save(out, job, data, model, None, epochs)
    phase = FloatPhase(model, _test(model, data, processes), epochs)
    if run is not None:
        run.results["float_accuracy"] = phase.accuracy
    return phase


def train_low_bit(
    job: Job,
    data: Dataset,
    float_model: nn.Module,
    *,
    out: Path | None = None,
    console: Console | None = None,
    run: Run | None = None,
    processes: Processes = SINGLE,
) -> LowBitPhase:
    """Prepare, initialize and train. out: checkpoint, written after every epoch, so that it always holds the last good
    one. run, processes: see `train_float`.

    Errors: KeyboardInterrupt where it came before the end of the first epoch (nothing is written then),
    QuantizationError."""
    model = prepare(float_model, job.config)
    if run is not None and run.state(LOW_BIT) is not None:  # the state has the grids
        initialized = run.results["initialized_accuracy"]
    else:
        batches = data.batches(
            "train", job.recipe.batch_size, shuffle=job.seed, limit=job.init_batches, share=processes.share
        )
        with _initializing(console, len(quantizers(model)), job.init_batches) as advance:
            calib.initialize(model, batches, job.init_method, job.weight_init, processes.observer, progress=advance)
        processes.check_same(model)
        initialized = _test(model, data, processes)
    before = run.histories.get(LOW_BIT, ()) if run is not None else ()
    done = list(before)
    if run is not None:
        run.results["initialized_accuracy"] = initialized

    def save(trained: nn.Module, epoch: int, metrics: Epoch) -> None:
        done.append(metrics)
        if out is not None:
            _save(out, job, data, trained, job.config, tuple(done))

    result: TrainResult | None = None
    if job.recipe.epochs:
        teacher = float_model if job.recipe.distill else None
        options = _options(job, run, LOW_BIT, processes, teacher)
        if job.save_memory:
            save_memory(model)
        fuse(model, job.fused)
        result = finetune(model, data, recipe=job.recipe, console=console, on_epoch=save, teacher=teacher, **options)
        fuse(model, False)
        if result.interrupted and not result.epochs:
            raise KeyboardInterrupt
    if out is not None and len(done) == len(before):  # nothing was left to train
        _save(out, job, data, model, job.config, tuple(done))
    return LowBitPhase(
        model, initialized, result.accuracy if result else initialized, tuple(done), bool(result and result.interrupted)
    )


@contextmanager
def _initializing(console: Console | None, grids: int, batches: int) -> Iterator[Callable[[str], None]]:
    """What to call after each grid, hundreds of which take minutes:

    a bar, or one line before them where there is no terminal.
    """
    title = f"initializing {grids} grids on {batches} batches"
    if console is not None and not console.is_terminal:
        console.print(title)
        console = None
    done = count(1)
    with optional_bar(console, title, grids) as advance:
        yield lambda name: advance(
            f"{next(done)}"
        )  # names come from several threads, in no order, and take the bar's room


def _options(
    job: Job, run: Run | None, phase: str, processes: Processes, teacher: nn.Module | None = None
) -> dict[str, Any]:
    """Of `fit`, the same in both phases."""
    options: dict[str, Any] = {"seed": job.seed, "device": job.device, "processes": processes}
    return (
        options
        if run is None
        else {**options, "state": run.state(phase), "keep": run.keep(phase, teacher), "keep_every": run.every}
    )


def _test(model: nn.Module, data: Dataset, processes: Processes) -> float:
    return evaluate(model.eval(), data.batches("test", 256, share=processes.share), processes=processes)


def _fresh(job: Job, data: Dataset) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        return build(**job.model_spec(data))


def _passed(job: Job, data: Dataset, run: Run) -> FloatPhase:
    """The float phase of a run that was interrupted behind it.

    Its weights are only there where the low-bit phase needs them: as teacher.
    """
    model = _fresh(job, data).eval()
    if job.recipe.distill:
        assert run.saved is not None
        try:
            model.load_state_dict(run.saved.state.part("teacher"))
        except RuntimeError as error:
            raise QuantizationError(
                f"the state does not fit the model ({' '.join(str(error).split())}): start anew"
            ) from error
    return FloatPhase(model, run.results["float_accuracy"], run.histories.get(FLOAT, ()))


def _restore_float(job: Job, data: Dataset, path: Path) -> nn.Module:
    model, found = checkpoint.restore(path)
    if found.config is not None:
        raise QuantizationError(
            f"checkpoint {path} is of a low-bit model: give one of a float model (train --float-out writes it)"
        )
    wanted = job.model_spec(data)
    for key, value in wanted.items():
        if found.model_spec.get(key, value) != value:
            raise QuantizationError(
                f"checkpoint {path} has a model with {key} {found.model_spec[key]!r}, this run needs {value!r}"
            )
    if found.input_shape != data.input_shape:
        raise QuantizationError(
            f"checkpoint {path} has the input shape {found.input_shape}, {job.data_spec} has {data.input_shape}: set "
            "the image size"
        )
    return model


def _save(
    path: Path, job: Job, data: Dataset, model: nn.Module, config: QATConfig | None, epochs: tuple[Epoch, ...]
) -> None:
    accuracy = epochs[-1].test_accuracy if epochs else None
    extra: dict[str, Any] = {"data": job.data_spec, "seed": job.seed, "epochs": len(epochs), "test_accuracy": accuracy}
    if config is not None:  # what the grids of this very state see: `lsq-export drift` compares other data with it
        extra[drift.RECORD] = drift.to_record(
            drift.measure(model, data.batches("train", job.recipe.batch_size, shuffle=job.seed, limit=RECORDED))
        )
    checkpoint.save(
        path,
        model,
        model_spec=job.model_spec(data),
        config=config.to_dict() if config else None,
        input_shape=data.input_shape,
        preprocessing=data.preprocessing,
        extra=extra,
    )
