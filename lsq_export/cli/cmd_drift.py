"""lsq-export drift: do other data still fit the learned grids? On request, quantizers that they left get new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from calib.errors import QuantizationError
from calib.words import counted

from .arguments import CHECKPOINT
from .code_options import code_options
from .drift_options import DriftOptions, limit_options, measuring_options, reinit_options
from .drift_table import print_change, print_use
from .group import FAILED
from .output import print_json, say
from .thread_options import threads_option

if TYPE_CHECKING:
    from torch import nn

    from calib.drift import Drift
    from calib.drift.range_use import RangeUse
    from lsq_export.training.checkpoint import Checkpoint

    from .drift_reinit import Images, Renewed, Selection


@click.command("drift")
@click.argument("checkpoint", type=CHECKPOINT)
@code_options
@measuring_options
@limit_options
@reinit_options
@threads_option()
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON on stdout.")
def command(threads: int | None, **options: Any) -> None:
    """Find the activation quantizers whose range other data have left.

    These clip more, leave codes idle, or make a larger error than in calibration.

    --reinit mends grids, not the network: compare the accuracies that it prints.

    The exit code is 1 if a quantizer left its range; with --reinit, if one still does in the new checkpoint.
    """
    given = DriftOptions(**options)
    given.check()  # Before torch is imported.
    from lsq_export.threads import using_threads

    with using_threads(threads):
        _run(given)


def _run(options: DriftOptions) -> None:
    from calib import drift
    from lsq_export.training.checkpoint import restore

    from .drift_reinit import Images, Renewal, Selection, reinitialize

    given = {"clipped": options.max_clipped, "codes": options.min_codes, "error": options.max_error}
    limits = drift.Thresholds(**{name: value for name, value in given.items() if value is not None})
    model, checkpoint = restore(options.checkpoint, model=options.named, trust=options.trust)
    if checkpoint.config is None:
        raise QuantizationError(
            f"checkpoint {checkpoint.path} is of a float model, which has no grids: give one that train --out wrote"
        )
    data = Images(_selection(options, checkpoint))
    before = None if options.against else _calibration(checkpoint, model)
    _to_gpu(model)
    if options.against:
        shape, size = checkpoint.image_shape, options.batch_size
        like = checkpoint.preprocessing
        training = Selection(
            spec=options.against, option="--against", shape=shape, split="train", batch_size=size, like=like
        )
        before = Images(training).measure(model, "calibration")
    assert before is not None
    now = drift.compare(before, data.measure(model, "drift"), limits)
    renewed = None
    if options.out is not None and any(quantizer.reasons for quantizer in now):
        how = Renewal(method=options.method, rounds=options.rounds, limits=limits, out=options.out)
        renewed = reinitialize(model, checkpoint, data, before, now, how)
    _report(options, data, now, renewed)


def _selection(options: DriftOptions, checkpoint: Checkpoint) -> Selection:
    """The images of --data, in the size of the checkpoint or of --image-size."""
    from .drift_reinit import Selection

    channels, height, width = checkpoint.image_shape
    return Selection(
        spec=options.data_spec,
        option="--data",
        shape=(channels, options.image_size or height, options.image_size or width),
        split=options.split,
        batch_size=options.batch_size,
        limit=options.batches,
        like=checkpoint.preprocessing,
    )


def _calibration(checkpoint: Checkpoint, model: nn.Module) -> dict[str, RangeUse]:
    """What calibration saw, from the checkpoint. The record must be of the grids that the checkpoint holds."""
    from calib.drift import RECORD, from_record
    from calib.quantized import quantized_modules

    advice = f"give the data that it was trained on, --against {checkpoint.extra.get('data', 'SPEC')}"
    if RECORD not in checkpoint.extra:
        raise QuantizationError(f"checkpoint {checkpoint.path} has no record of what calibration saw: {advice}")
    try:
        record = from_record(checkpoint.extra[RECORD])
    except QuantizationError as error:
        raise QuantizationError(f"checkpoint {checkpoint.path}: {error}, or {advice}") from error
    grids = {name: quantizer for name, quantizer in quantized_modules(model).items() if quantizer.kind == "activation"}
    if record.keys() != grids.keys():
        raise QuantizationError(
            f"checkpoint {checkpoint.path}: its record of calibration is of another network: {advice}"
        )
    for name, use in record.items():
        if (use.scale, use.offset) != (float(grids[name].scale.detach()), float(grids[name].effective_offset.detach())):
            raise QuantizationError(
                f"checkpoint {checkpoint.path}: the record of {name} is of another grid than the checkpoint holds: "
                f"{advice}"
            )
    return record


def _to_gpu(model: nn.Module) -> None:
    """Where there is one."""
    import torch

    model.to("cuda" if torch.cuda.is_available() else "cpu")


def _report(options: DriftOptions, data: Images, now: Sequence[Drift], renewed: Renewed | None) -> None:
    """Print the comparison. Errors (click.exceptions.Exit): a quantizer is outside its range at the end."""
    outside = [quantizer for quantizer in (renewed.after if renewed else now) if quantizer.reasons]
    if options.as_json:
        print_json(_values(options, data, now, renewed))
    else:
        title = f"Range of activations in {options.checkpoint}: {options.data_spec}, {counted(data.count, 'image')}"
        print_use(now, f"{title}, against calibration")
        if renewed is not None:
            print_change(now, renewed)
            say(f"wrote {options.out}")
        if not outside:
            say("all quantizers keep their range")
    if renewed is not None and renewed.accuracy_after < renewed.accuracy_before:
        say(
            "the accuracy fell: the network itself, not its grids, does not fit these images; train on such data",
            err=True,
        )
    for quantizer in outside:
        say(f"FAILED: {quantizer.name} {'; '.join(quantizer.reasons)}", err=True)
    if outside:
        raise click.exceptions.Exit(FAILED)


def _values(options: DriftOptions, data: Images, now: Sequence[Drift], renewed: Renewed | None) -> dict[str, Any]:
    """The comparison as plain values, for JSON."""
    return {
        "checkpoint": str(options.checkpoint),
        "data": options.data_spec,
        "images": data.count,
        "quantizers": [quantizer.to_dict() for quantizer in now],
        "reinitialized": None if renewed is None else {"checkpoint": str(options.out), **renewed.to_dict()},
    }
