"""lsq-export drift: do other data still fit the learned grids?

Re-initializes those that they do not fit, on request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calib.errors import QuantizationError

from .drift_table import print_change, print_use
from .group import FAILED
from .output import console, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from calib.drift import Drift, Thresholds
    from calib.drift.range_use import RangeUse
    from lsq_export.training.checkpoint import Checkpoint


@click.command("drift")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "--data",
    "data_spec",
    required=True,
    metavar="SPEC",
    help="Data as they are now: digits, imagefolder:DIR or npz:FILE.",
)
@click.option("--split", type=click.Choice(["test", "train", "all"]), default="test", help="Which images of --data.")
@click.option(
    "--against",
    metavar="SPEC",
    help="Compare with the train split of these data.  [default: with the record in the checkpoint]",
)
@click.option("--batches", type=click.IntRange(1), help="At most so many batches of --data.  [default: all]")
@click.option("--batch-size", type=click.IntRange(1), default=64, help="Images at a time.")
@click.option(
    "--image-size", type=click.IntRange(1), help="Height and width of the images.  [default: the checkpoint's]"
)
@click.option(
    "--max-clipped",
    type=click.FloatRange(0, 1),
    help="Clipped share (0-1) that may come in on a side.  [default: 0.01]",
)
@click.option(
    "--min-codes",
    type=click.FloatRange(0, 1),
    help="Codes in use, as a share of those in calibration, that are too few.  [default: 0.5]",
)
@click.option(
    "--max-error",
    type=click.FloatRange(1),
    help="Relative error, times that of calibration, that is allowed.  [default: 4]",
)
@click.option(
    "--reinit",
    "out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a checkpoint there, with new grids where the range was left.",
)
@click.option("--method", type=click.Choice(["minmax", "lsq", "mse"]), default="mse", help="How --reinit finds them.")
@click.option(
    "--rounds", type=click.IntRange(1), default=8, help="How often --reinit looks again behind the new grids, at most."
)
@click.option("--force", is_flag=True, help="Overwrite the file of --reinit.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON on stdout.")
def command(
    checkpoint: Path,
    data_spec: str,
    split: str,
    against: str | None,
    batches: int | None,
    batch_size: int,
    image_size: int | None,
    max_clipped: float | None,
    min_codes: float | None,
    max_error: float | None,
    out: Path | None,
    method: Any,
    rounds: int,
    force: bool,
    as_json: bool,
) -> None:
    """Find the activation quantizers that data have left: clipped, with idle codes, or with a larger error than
    calibration saw.

    --reinit mends grids, not the network: compare the accuracies that it prints.
    Exit code 1 if a quantizer left its range; with --reinit, if one still does in the new checkpoint.
    """
    from calib import drift
    from lsq_export.training.checkpoint import restore

    _check_output(out, checkpoint, force)
    given = {"clipped": max_clipped, "codes": min_codes, "error": max_error}
    limits = drift.Thresholds(**{name: value for name, value in given.items() if value is not None})
    model, found = restore(checkpoint)
    if found.config is None:
        raise QuantizationError(
            f"checkpoint {checkpoint} is of a float model, which has no grids: give one that train --out wrote"
        )
    channels, height, width = found.input_shape
    data = Images(
        data_spec, "--data", (channels, image_size or height, image_size or width), split, batch_size, batches
    )
    reference = None if against else _record(found, model)
    _to_gpu(model)
    if against:
        reference = Images(against, "--against", found.input_shape, "train", batch_size, None).measure(
            model, "calibration"
        )
    assert reference is not None
    now = drift.compare(reference, data.measure(model, "drift"), limits)
    left = [d for d in now if d.reasons]
    renewed = (
        _reinitialize(model, found, reference, now, data, limits, method, rounds, out)
        if out is not None and left
        else None
    )
    still = left if renewed is None else [d for d in renewed.after if d.reasons]
    if as_json:
        result = {
            "checkpoint": str(checkpoint),
            "data": data_spec,
            "images": data.count,
            "quantizers": [d.to_dict() for d in now],
        }
        print_json(
            {**result, "reinitialized": None if renewed is None else {"checkpoint": str(out), **renewed.to_dict()}}
        )
    else:
        print_use(now, f"Range of activations in {checkpoint}: {data_spec}, {data.count} images, against calibration")
        if renewed is not None:
            print_change(now, renewed)
            click.echo(f"wrote {out}")
        if not still:
            click.echo("all quantizers keep their range")
    if renewed is not None and renewed.accuracy_after < renewed.accuracy_before:
        click.echo(
            "the accuracy fell: the network itself, not its grids, does not fit these images; train on such data",
            err=True,
        )
    for d in still:
        click.echo(f"FAILED: {d.name} {'; '.join(d.reasons)}", err=True)
    if still:
        raise click.exceptions.Exit(FAILED)


class Images:
    """Images of a data set, as often as they are needed; count: how many."""

    def __init__(
        self, spec: str, option: str, shape: tuple[int, ...], split: str, batch_size: int, limit: int | None
    ) -> None:
        from .data_options import load_data

        data = load_data(spec, shape, option=option)
        names = ("train", "test") if split == "all" else (split,)
        every = [data.batches(name, batch_size, shuffle=0) for name in names]
        # each part gets its share of the limit, in order
        self.parts, rest = [], math.inf if limit is None else limit
        for part in every:
            if rest > 0:
                self.parts.append(replace(part, limit=int(min(len(part), rest))))
                rest -= len(part)
        self.count = sum(min(len(part.split), len(part) * batch_size) for part in self.parts)

    def __iter__(self) -> Any:
        for part in self.parts:
            yield from part

    def measure(self, model: nn.Module, title: str) -> dict[str, RangeUse]:
        """`calib.drift.measure`, with a bar."""
        from calib.drift import measure
        from lsq_export.progress import bar

        with bar(console(stderr=True), title, sum(len(part) for part in self.parts)) as advance:
            return measure(model, self, advance)


def _record(found: Checkpoint, model: nn.Module) -> dict[str, RangeUse]:
    """What calibration saw, from the checkpoint: of these grids, or it says nothing."""
    from calib.drift import RECORD, from_record
    from calib.quantized import quantized_modules

    advice = f"give the data that it was trained on, --against {found.extra.get('data', 'SPEC')}"
    if RECORD not in found.extra:
        raise QuantizationError(f"checkpoint {found.path} has no record of what calibration saw: {advice}")
    try:
        record = from_record(found.extra[RECORD])
    except QuantizationError as error:
        raise QuantizationError(f"checkpoint {found.path}: {error}, or {advice}") from error
    grids = {name: quantizer for name, quantizer in quantized_modules(model).items() if quantizer.kind == "activation"}
    if record.keys() != grids.keys():
        raise QuantizationError(f"checkpoint {found.path}: its record of calibration is of another network: {advice}")
    for name, use in record.items():
        if (use.scale, use.offset) != (float(grids[name].scale.detach()), float(grids[name].effective_offset.detach())):
            raise QuantizationError(
                f"checkpoint {found.path}: the record of {name} is of another grid than the checkpoint holds: {advice}"
            )
    return record


@dataclass(frozen=True)
class Renewed:
    """What --reinit did: names, in the order of the model; the comparison on the new grids.

    Top-1 accuracy (0-1) on these images: before, after, and in float (no activation or weight quantized): what no grid
    can mend."""

    names: tuple[str, ...]
    rounds: int
    after: tuple[Drift, ...]
    accuracy_before: float
    accuracy_after: float
    accuracy_float: float

    def to_dict(self) -> dict[str, Any]:
        accuracy = {"before": self.accuracy_before, "after": self.accuracy_after, "float": self.accuracy_float}
        return {
            "names": list(self.names),
            "rounds": self.rounds,
            "accuracy": accuracy,
            "quantizers": [d.to_dict() for d in self.after],
        }


def _reinitialize(
    model: nn.Module,
    found: Checkpoint,
    reference: Mapping[str, RangeUse],
    now: tuple[Drift, ...],
    data: Images,
    limits: Thresholds,
    method: Any,
    rounds: int,
    out: Path,
) -> Renewed:
    """New grids until every quantizer keeps its range, and a checkpoint with them.

    What new grids saw on these data is their calibration.
    """
    from calib import drift
    from calib.quantized import bypassed
    from lsq_export.training.checkpoint import save
    from lsq_export.training.fit import evaluate

    before = evaluate(model, data)
    with bypassed(model):
        in_float = evaluate(model, data)
    record, renewed, done = dict(reference), set[str](), 0
    while done < rounds and (names := [d.name for d in now if d.reasons]):
        done += 1
        renewed.update(names)
        drift.reinitialize(model, data, names, method)
        uses = data.measure(model, f"round {done}: {len(names)} re-initialized")
        record |= {name: uses[name] for name in names}
        now = drift.compare(record, uses, limits)
    record |= {d.name: d.now for d in now if d.name in renewed and not d.reasons}  # behind the grids of later rounds
    save(
        out,
        model,
        model_spec=found.model_spec,
        config=found.config,
        input_shape=found.input_shape,
        preprocessing=found.preprocessing,
        extra={**found.extra, drift.RECORD: drift.to_record(record)},
    )
    after = drift.compare(record, uses, limits)
    return Renewed(
        tuple(d.name for d in after if d.name in renewed), done, after, before, evaluate(model, data), in_float
    )


def _to_gpu(model: nn.Module) -> None:
    """Where there is one."""
    import torch

    model.to("cuda" if torch.cuda.is_available() else "cpu")


def _check_output(out: Path | None, checkpoint: Path, force: bool) -> None:
    """Before the work, not after."""
    if out is None:
        return
    if out.exists() and (not force or (checkpoint.exists() and out.samefile(checkpoint))):
        advice = (
            "give another name, or --force to overwrite it"
            if not force
            else "that is the checkpoint itself: give another name"
        )
        raise click.UsageError(f"--reinit {out} exists: {advice}")
    if not out.parent.is_dir():
        raise click.UsageError(f"--reinit {out}: the directory {out.parent} does not exist; create it first")
