"""The float model that a job starts with: fresh weights, or those of a checkpoint, ours or another program's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from calib.errors import QuantizationError
from lsq_export.data.dataset import Dataset
from lsq_export.files.weights_file import read
from lsq_export.models import build, variants

from . import checkpoint
from .job_settings import Job
from .weights import LoadedWeights, load_weights
from .weights_choice import choose


@dataclass(frozen=True, kw_only=True)
class Start:
    """A model with the weights of a file. weights: how they were read; None for a checkpoint of lsq-export."""

    model: nn.Module
    path: Path
    weights: LoadedWeights | None


def fresh(job: Job, data: Dataset) -> nn.Module:
    """The network with the weights that the seed draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        model: nn.Module = build(**job.model_spec(data))
    return model


def adapted(job: Job, data: Dataset, path: Path) -> Job:
    """The job with the variant of its network that the tensors of the file have, where there are several.

    Errors (QuantizationError): those of `load_weights` for files that cannot be read or are of another network.
    """
    if job.variant is not None or len(variants(job.model_name)) == 1:
        return job
    content = read(path)[0]
    fits = {}
    for variant in variants(job.model_name):
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            state = build(**replace(job, variant=variant).model_spec(data)).state_dict()
        found = choose(content, state, f"checkpoint {path}", job.use_ema).tensors
        fits[variant] = sum(found[name].shape == state[name].shape for name in found)
    best = max(fits.values())
    fitting = [variant for variant, count in fits.items() if count == best]
    return replace(job, variant=fitting[0]) if len(fitting) == 1 else job


def started(job: Job, data: Dataset, path: Path) -> Start:
    """The model of the job with the weights of a file.

    Errors (QuantizationError): those of `load_weights`; for a checkpoint of lsq-export also another model, other
    classes (unless the job asks for a new head), another shape or normalization of the images.
    """
    if checkpoint.is_checkpoint(path):
        model = _restored(job, data, path)
        if not job.new_head:
            return Start(model=model, path=path, weights=None)
        model = fresh(job, data)
        return Start(model=model, path=path, weights=load_weights(model, path, new_head=True, ema=job.use_ema))
    model = fresh(job, data)
    loaded = load_weights(model, path, new_head=job.new_head, ema=job.use_ema)
    return Start(model=model.eval(), path=path, weights=loaded)


def _restored(job: Job, data: Dataset, path: Path) -> nn.Module:
    """The model of a checkpoint of lsq-export."""
    source = checkpoint.load(path)
    if source.config is not None:
        raise QuantizationError(
            f"checkpoint {path} is of a low-bit model: give one of a float model (train --float-out writes it)"
        )
    if job.use_ema:
        raise QuantizationError(f"checkpoint {path} holds no averaged weights (EMA) beside others: leave --use-ema out")
    for key, value in job.model_spec(data).items():
        if source.model_spec.get(key, value) != value and not (job.new_head and key == "num_classes"):
            advice = ", or --new-head" if key == "num_classes" else ""
            raise QuantizationError(
                f"checkpoint {path} has a model with {key} {source.model_spec[key]!r}, this run needs {value!r}{advice}"
            )
    if source.input_shape != data.input_shape:
        raise QuantizationError(
            f"checkpoint {path} has the input shape {source.input_shape}, {job.data_spec} has {data.input_shape}: set "
            "the image size"
        )
    _check_normalization(data, source)
    model, _ = checkpoint.restore(path, model=job.model_name)
    return model


def _check_normalization(data: Dataset, source: checkpoint.Checkpoint) -> None:
    before, now = source.preprocessing, data.preprocessing
    if before.get("data") != now.get("data"):
        return
    for what in ("mean", "std", "resize"):
        if what in before and before[what] != now.get(what):
            raise QuantizationError(
                f"checkpoint {source.path} was trained with {what} {before[what]}, this run has {now.get(what)}: give "
                f"the same --{what}"
            )
