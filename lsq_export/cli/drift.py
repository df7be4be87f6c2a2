"""lsq-export drift: do other data still fit the learned grids? Re-initializes those that they do not fit, on request."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calib.errors import QuantizationError

from .group import FAILED
from .output import console, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from calib.drift import Drift
    from calib.range_use import RangeUse

    from ..checkpoint import Checkpoint

COLUMNS = ("quantizer", ">clipped below", ">(was)", ">clipped above", ">(was)", ">codes", ">(was)", ">SQNR", ">(was)", "left its range")
REINIT_COLUMNS = ("re-initialized", ">clipped before", ">after", ">SQNR before", ">after")


@click.command("drift")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--data", "data_spec", required=True, metavar="SPEC", help="Data as they are now: digits, imagefolder:DIR or npz:FILE.")
@click.option("--split", type=click.Choice(["test", "train", "all"]), default="test", help="Which images of --data.")
@click.option("--against", metavar="SPEC", help="Compare with the train split of these data.  [default: with the record in the checkpoint]")
@click.option("--batches", type=click.IntRange(1), help="At most so many batches of --data.  [default: all]")
@click.option("--batch-size", type=click.IntRange(1), default=64, help="Images at a time.")
@click.option("--image-size", type=click.IntRange(1), help="Height and width of the images.  [default: the checkpoint's]")
@click.option("--max-clipped", type=click.FloatRange(0, 1), help="Clipped share (0-1) that may come in on a side.  [default: 0.01]")
@click.option("--min-codes", type=click.FloatRange(0, 1), help="Codes in use, as a share of those in calibration, that are too few.  [default: 0.5]")
@click.option("--max-error", type=click.FloatRange(1), help="Relative error, times that of calibration, that is allowed.  [default: 4]")
@click.option(
    "--reinit", "out", type=click.Path(path_type=Path, dir_okay=False), help="Write a checkpoint there, with new grids where the range was left."
)
@click.option("--method", type=click.Choice(["minmax", "lsq", "mse"]), default="mse", help="How --reinit finds them.")
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
    force: bool,
    as_json: bool,
) -> None:
    """Find the activation quantizers that data have left: clipped, with idle codes, or with a larger error than calibration saw.

    Exit code 1 if a quantizer left its range; with --reinit, if one still does in the new checkpoint.
    """
    from calib import drift

    from ..checkpoint import restore

    _check_output(out, checkpoint, force)
    given = {"clipped": max_clipped, "codes": min_codes, "error": max_error}
    limits = drift.Thresholds(**{name: value for name, value in given.items() if value is not None})
    model, found = restore(checkpoint)
    if found.config is None:
        raise QuantizationError(f"checkpoint {checkpoint} is of a float model, which has no grids: give one that train --out wrote")
    channels, height, width = found.input_shape
    data = Images(data_spec, "--data", (channels, image_size or height, image_size or width), split, batch_size, batches)
    reference = None if against else _record(found, model)
    _to_gpu(model)
    if against:
        reference = Images(against, "--against", found.input_shape, "train", batch_size, None).measure(model, "calibration")
    assert reference is not None
    now = drift.compare(reference, data.measure(model, "drift"), limits)
    left = [d for d in now if d.reasons]
    after: tuple[Drift, ...] = ()
    if out is not None and left:
        after = _reinitialize(model, found, reference, [d.name for d in left], data, limits, method, out)
    still = [d for d in after if d.reasons]
    if as_json:
        result = {"checkpoint": str(checkpoint), "data": data_spec, "images": data.count, "quantizers": [d.to_dict() for d in now]}
        print_json({**result, "reinitialized": str(out) if after else None, "after": [d.to_dict() for d in after]})
    else:
        _print_use(now, f"Range of activations in {checkpoint}: {data_spec}, {data.count} images, against calibration")
        if after:
            _print_change(left, after)
            click.echo(f"wrote {out}")
    for d in still if after else left:
        click.echo(f"FAILED: {d.name} {'; '.join(d.reasons)}", err=True)
    if still:
        click.echo(f"behind the new grids, others leave their range: repeat with {out}, or train on such data", err=True)
    if still or (left and not after):
        raise click.exceptions.Exit(FAILED)
    if not as_json:
        click.echo("all quantizers keep their range" if not left else "all quantizers keep their range now")


class Images:
    """Images of a data set, as often as they are needed; count: how many."""

    def __init__(self, spec: str, option: str, shape: tuple[int, ...], split: str, batch_size: int, limit: int | None) -> None:
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

        from ..progress import bar

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
    quantizers = quantized_modules(model)
    for name, use in record.items():
        grid = quantizers.get(name)
        if grid is None or (use.scale, use.offset) != (float(grid.scale.detach()), float(grid.effective_offset.detach())):
            raise QuantizationError(f"checkpoint {found.path}: the record of {name} is of another grid than the checkpoint holds: {advice}")
    return record


def _reinitialize(
    model: nn.Module,
    found: Checkpoint,
    reference: Mapping[str, RangeUse],
    names: Sequence[str],
    data: Images,
    limits: Any,
    method: Any,
    out: Path,
) -> tuple[Drift, ...]:
    """New grids for `names`, a checkpoint with them, and the comparison then. What the new grids saw on these data is their calibration."""
    from calib import drift

    from ..checkpoint import save

    drift.reinitialize(model, data, names, method)
    uses = data.measure(model, "re-initialized")
    record = {name: uses[name] if name in names else use for name, use in reference.items()}
    save(
        out,
        model,
        model_spec=found.model_spec,
        config=found.config,
        input_shape=found.input_shape,
        preprocessing=found.preprocessing,
        extra={**found.extra, drift.RECORD: drift.to_record(record)},
    )
    return drift.compare(record, uses, limits)


def _to_gpu(model: nn.Module) -> None:
    """Where there is one."""
    import torch

    model.to("cuda" if torch.cuda.is_available() else "cpu")


def _check_output(out: Path | None, checkpoint: Path, force: bool) -> None:
    """Before the work, not after."""
    if out is None:
        return
    if out.exists() and (not force or (checkpoint.exists() and out.samefile(checkpoint))):
        advice = "give another name, or --force to overwrite it" if not force else "that is the checkpoint itself: give another name"
        raise click.UsageError(f"--reinit {out} exists: {advice}")
    if not out.parent.is_dir():
        raise click.UsageError(f"--reinit {out}: the directory {out.parent} does not exist; create it first")


def _sqnr(use: RangeUse) -> str:
    if not use.relative_error:
        return "–" if use.relative_error is None else "inf dB"
    return f"{-10 * math.log10(use.relative_error):.1f} dB"


def _print_use(found: Sequence[Drift], title: str) -> None:
    rows = []
    for d in found:
        shares = (f"{d.now.below:.2%}", f"{d.before.below:.2%}", f"{d.now.above:.2%}", f"{d.before.above:.2%}")
        codes = (f"{d.now.codes} of {2**d.now.bits}", str(d.before.codes))
        rows.append((d.name, *shares, *codes, _sqnr(d.now), _sqnr(d.before), "; ".join(d.reasons)))
    print_table(title, COLUMNS, rows)


def _print_change(left: Sequence[Drift], after: Sequence[Drift]) -> None:
    """Before and after, on the same images."""
    uses = {d.name: d.now for d in after}
    pairs = [(d.now, uses[d.name]) for d in left]
    rows = [(was.name, *(f"{use.below + use.above:.2%}" for use in (was, now)), *(_sqnr(use) for use in (was, now))) for was, now in pairs]
    print_table("The same images on the new grids", REINIT_COLUMNS, rows)
