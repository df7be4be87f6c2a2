"""The steps of `lsq-export demo`: train, export, verify, time. An interrupted demo goes on where it stopped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calib.errors import QuantizationError
from calib.words import counted

from .demo_table import Result
from .output import console
from .train_files import SUFFIX, Files
from .train_run import Trained, train_both

if TYPE_CHECKING:
    from torch import nn

    from lsq_export.bench import BenchResult
    from lsq_export.bundle.directory import Bundle
    from lsq_export.data.dataset import Dataset
    from lsq_export.training.job import FloatPhase, Job
    from lsq_export.verification.parity import Parity

CALIBRATION_BATCHES = 8


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for; the names are those of the options."""

    model_name: str
    weight_bits: int
    activation_bits: int
    out: Path
    force: bool
    resume: bool
    epochs: int | None
    float_epochs: int | None
    seed: int
    threads: int | None
    runs: int

    @property
    def bundle(self) -> Path:
        """Where the bundle goes."""
        return self.out / "bundle"

    @property
    def files(self) -> Files:
        """Those of the training."""
        trained = self.out / "trained"
        log, curve = (trained.with_suffix(suffix) for suffix in (".jsonl", ".svg"))
        how: dict[str, Any] = {"save_every": 0, "force": self.force, "resume": self.resume}
        return Files(out=trained.with_suffix(SUFFIX), log=log, curve=curve, curve_wanted=False, **how)


def run_demo(options: Options) -> Result:
    """Train, export, verify, time; everything lies in --out."""
    _prepare_directory(options)
    from lsq_export.progress import Phases
    from lsq_export.report.recording import record
    from lsq_export.threads import using_threads
    from lsq_export.training.distributed import SINGLE

    job, phases, files = _job(options), Phases(5), options.files
    data = job.load_data()
    trained = train_both(job, data, files, SINGLE, phases, float_out=options.out / "float.safetensors")
    float_phase, model = trained.float_phase, trained.low_bit.model
    try:
        if trained.low_bit.interrupted:
            raise KeyboardInterrupt
        with using_threads(options.threads):
            bundle = _export(trained, job, data, options, phases.next("export"))
            parity = _verify(model, bundle, data, phases.next("verify"))
        record(bundle, parity)
        bench = _bench(bundle, options, phases.next("time the models"))
        record(bundle, parity, bench.to_dict())
    except KeyboardInterrupt:
        raise files.interruption() from None
    _write(options.out / "demo.json", trained.low_bit.config.to_dict(), float_phase, parity, bench)
    trained.run.finish()
    return Result(float_phase=float_phase, bundle=bundle, parity=parity, bench=bench)


def _prepare_directory(options: Options) -> None:
    """Before minutes of training, not after them.

    A bundle of an earlier demo is removed, so that one that --resume finds is that of the interrupted run.
    """
    out, force, state = options.out, options.force, options.files.state
    if force and options.resume:
        raise click.UsageError("--resume continues a demo and --force starts anew: give one of them")
    if out.exists() and any(out.iterdir()) and not options.resume:
        if not force and state.exists():
            raise QuantizationError(
                f"--out {out} has a demo that was interrupted: --resume continues it, --force starts anew"
            )
        if not force:
            raise QuantizationError(
                f"--out {out} is not empty: give another directory, or --force to replace an earlier demo there"
            )
        if not (out / "float.safetensors").is_file() and not state.is_file():
            raise QuantizationError(
                f"--out {out} is not empty and holds no earlier demo, so nothing is replaced: give another directory"
            )
    from lsq_export.bundle.place import check_target, remove_bundle

    try:
        out.mkdir(parents=True, exist_ok=True)
        if not options.resume:
            check_target(options.bundle, force=force)
            remove_bundle(options.bundle)
    except OSError as error:
        raise QuantizationError(f"--out {out} cannot be made: {error.strerror}") from error


def _job(options: Options) -> Job:
    from lsq_export.qat.prepare_model import QATConfig
    from lsq_export.training.fit import FINETUNE, PRETRAIN
    from lsq_export.training.job import Job

    config = QATConfig(weight_bits=options.weight_bits, activation_bits=options.activation_bits)
    float_recipe = replace(PRETRAIN, epochs=options.float_epochs or PRETRAIN.epochs)
    recipe = replace(FINETUNE, epochs=options.epochs or FINETUNE.epochs)
    return Job(
        options.model_name,
        "digits",
        config,
        float_recipe=float_recipe,
        recipe=recipe,
        seed=options.seed,
        threads=options.threads,
    )


def _export(trained: Trained, job: Job, data: Dataset, options: Options, title: str) -> Bundle:
    from lsq_export.bundle.directory import open_bundle
    from lsq_export.pipeline import export
    from lsq_export.progress import stages

    if options.resume and options.bundle.exists():
        return open_bundle(options.bundle)
    example, _ = next(iter(data.batches("test", 1)))
    low_bit = trained.low_bit
    known = {"float_accuracy": trained.float_phase.accuracy, "trained_accuracy": low_bit.accuracy}
    source = {
        "model": job.model_spec(data),
        "config": low_bit.config.to_dict(),
        "checkpoint": "trained.safetensors",
        "data": "digits",
        "accuracy": {**known, "data": "digits", "images": len(data.test)},
    }
    with stages(console(stderr=True), title, last=True) as on_stage:
        return export(
            low_bit.model,
            example,
            options.bundle,
            calibration=data.batches("train", 64, shuffle=job.seed, limit=CALIBRATION_BATCHES),
            force=options.force,
            preprocessing=data.preprocessing,
            classes=data.classes,
            sample=data.sample(),
            source=source,
            on_stage=on_stage,
        )


def _verify(model: nn.Module, bundle: Bundle, data: Dataset, title: str) -> Parity:
    from lsq_export.pipeline import verify
    from lsq_export.progress import bar

    batches = data.batches("test", 64)
    with bar(console(stderr=True), title, len(batches)) as advance:
        parity = verify(model, bundle, batches, progress=lambda images: advance(counted(images, "image")))
    return replace(parity, data="digits", split="test")


def _bench(bundle: Bundle, options: Options, title: str) -> BenchResult:
    from lsq_export.bench import RunOptions, collect, compare
    from lsq_export.progress import bar
    from lsq_export.threads import available_cores

    models = collect([bundle.directory])
    how = RunOptions(runs=options.runs, threads=options.threads or min(2, available_cores()))
    with bar(console(stderr=True), title, len(models) * len(how.blocks)) as advance:
        return compare(models, how, on_block=advance)


def _write(path: Path, config: dict[str, Any], float_phase: FloatPhase, parity: Parity, bench: BenchResult) -> None:
    from lsq_export.files.text import write_json

    content = {
        "config": config,
        "float_accuracy": float_phase.accuracy,
        "parity": parity.to_dict(),
        "bench": bench.to_dict(),
    }
    write_json(path, content)
