"""lsq-export export: a trained checkpoint becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .group import FAILED
from .output import console, print_table
from .parity_table import decibel, percent, print_islands, print_parity, print_verdict


@click.command("export")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory of the bundle to write.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    metavar="FORMAT",
    help="qdq or qoperator; may be repeated.  [default: all that the target reads]",
)
@click.option("--target", default="ort-cpu", help="Where the files run: see `lsq-export targets`.")
@click.option(
    "--fold", metavar="FOLD", help="strided or integer: how real offsets get onto zero points.  [default: the target's]"
)
@click.option(
    "--data", "data_spec", metavar="SPEC", help="Calibration data.  [default: what the checkpoint was trained on]"
)
@click.option("--images", type=click.IntRange(1), default=512, help="Training images to calibrate edges on.")
@click.option("--force", is_flag=True, help="Replace the bundle in --out.")
@click.option(
    "--strict-integer", is_flag=True, help="Refuse operators that would stay float between integers (islands)."
)
@click.option("--bias-correction/--no-bias-correction", help="Let biases take back the mean errors of their channels.")
@click.option("--json", "as_json", is_flag=True, help="Print the parity as JSON on stdout.")
def command(
    checkpoint: Path,
    out: Path,
    formats: tuple[str, ...],
    target: str,
    fold: str | None,
    data_spec: str | None,
    images: int,
    force: bool,
    strict_integer: bool,
    bias_correction: bool,
    as_json: bool,
) -> None:
    """Fold a trained checkpoint and write a bundle: integer ONNX files, golden vectors, manifest, parity, report.

    The export is verified on 64 calibration images before the bundle appears; exit code 1 if a promise does not hold.
    """
    import torch

    from lsq_export.bundle.directory import PARITY
    from lsq_export.pipeline import export
    from lsq_export.training.checkpoint import restore

    from .data_options import load_data, source_of

    model, found = restore(checkpoint)
    data = load_data(data_spec or found.extra.get("data"), found.input_shape, option="--data")
    source = source_of(found, data_spec)
    batches = data.batches("train", min(images, 64), shuffle=0, limit=-(-images // min(images, 64)))
    show = console(stderr=True)
    with show.status("capture") as status:
        bundle = export(
            model,
            torch.zeros(1, *found.input_shape),
            out,
            formats=formats or None,
            calibration=batches,
            target=target,
            fold=fold,
            force=force,
            strict_integer=strict_integer,
            bias_correction=bias_correction,
            preprocessing=found.preprocessing,
            source=source,
            on_stage=status.update,
        )
    parity = bundle.parity
    assert parity is not None  # of a bundle that was just exported
    if as_json:
        click.echo((bundle.directory / PARITY).read_text(encoding="utf-8"), nl=False)
    else:
        _print_fold(bundle.manifest)
        click.echo()
        _print_layers(bundle.manifest)
        click.echo()
        _print_costs(bundle.manifest)
        if bundle.manifest["bias_correction"]:
            click.echo(bundle.manifest["bias_correction"]["summary"])
        click.echo()
        print_parity(parity, layers=False)
        print_islands(parity)
        click.echo()
        sizes = ", ".join(f"{name} {entry['bytes'] / 1e6:.2f} MB" for name, entry in bundle.manifest["formats"].items())
        click.echo(f"wrote {bundle.directory} ({sizes})")
        print_verdict(parity)
    if not parity.ok:
        raise click.exceptions.Exit(FAILED)


def _print_costs(manifest: dict[str, Any]) -> None:
    """What each fold of the target costs."""
    rows = [
        (
            f"{c['fold']}{' (chosen)' if c['fold'] == manifest['fold'] else ''}",
            *(
                (c["refused"], "", "")
                if "refused" in c
                else (percent(c["codes_differing"]), decibel(c["sqnr_db"]), percent(c["top1_agreement"]))
            ),
        )
        for c in manifest["folds"]
    ]
    images = max((c.get("images", 0) for c in manifest["folds"]), default=0)
    title = f"What each fold costs against the trained model, end to end on {images} calibration images"
    print_table(title, ("fold", ">codes that differ", ">SQNR", ">top-1 agreement"), rows)


def _print_layers(manifest: dict[str, Any]) -> None:
    """Weights and biases on integers."""
    rows = [
        (
            e["name"],
            e["bits"],
            e["container"],
            e["gain"],
            f"{e['bias_error_steps']:.2g}",
            e["accumulator"],
            e["dead_channels"],
        )
        for e in manifest["layers"]
    ]
    columns = ("layer", ">bits", "container", ">gain", ">bias rounding, steps", ">|accumulator| <=", ">dead channels")
    print_table("Layers after the fold", columns, rows)
    click.echo("gain: the codes were multiplied by it; bias rounding: in steps of the layer's output grid")


def _print_fold(manifest: dict[str, Any]) -> None:
    """What the fold cost, tensor by tensor."""
    rows = [
        (
            t["name"],
            t["kind"],
            t["levels"],
            f"{t['scale']:.4g}",
            f"{t['offset'] + 0.0:.4g}",
            f"{t['offset_carried'] + 0.0:.4g}",
            f"{t['error_steps']:+.4f}",
            t["stride"],
            t["origin"],
            t["zero_point"],
            f"{t['border']:.2g}",
            f"bias of {', '.join(t['carried_by'])}" if t["carried_by"] else t["remainder"],
        )
        for t in manifest["tensors"]
    ]
    columns = (
        "tensor",
        "kind",
        ">levels",
        ">s",
        ">β",
        ">β′",
        ">(β′−β)/s",
        ">k",
        ">o",
        ">Z",
        ">border error",
        "remainder",
    )
    print_table("Grids after the fold", columns, rows)
    click.echo(
        "trained: values s·q + β for q = 0 … levels - 1; in the file: codes k·q + o, scale s/k, zero point Z, which "
        "stands for β′"
    )
    click.echo(
        "border error: the most that padding is off by, in units of the next output; remainder: where β − β′ went"
    )
