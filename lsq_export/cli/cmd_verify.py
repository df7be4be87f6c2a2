"""lsq-export verify: does a bundle do what the trained model did?"""

from __future__ import annotations

from pathlib import Path

import click

from .arguments import BUNDLE, DATA
from .group import FAILED
from .output import console, print_json
from .parity_table import print_islands, print_parity, print_verdict
from .thread_options import threads_option


@click.command("verify")
@click.argument("bundle", type=BUNDLE)
@click.option(
    "--data",
    "data_spec",
    type=DATA,
    metavar="SPEC",
    help="Run on the test split of these data.  [default: what the checkpoint was trained on]",
)
@click.option(
    "--images", type=click.IntRange(1), help="Take at most this many images.  [default: the whole test split]"
)
@click.option("--batch-size", type=click.IntRange(1), default=64, help="Run this many images at a time.")
@threads_option()
@click.option("--json", "as_json", is_flag=True, help="Print the parity as JSON on stdout.")
def command(
    bundle: Path, data_spec: str | None, images: int | None, batch_size: int, threads: int | None, as_json: bool
) -> None:
    """Check a bundle in ONNX Runtime against the integer reference, the folded and the trained model, layer by layer.

    Writes parity.json and report.html in the bundle. Exit code 1 if a promise does not hold.
    """
    from lsq_export.bundle.directory import open_bundle

    from .data_options import check_known

    if data_spec is None:
        check_known((open_bundle(bundle).manifest.get("source") or {}).get("data"), option="--data")
    from lsq_export.pipeline import verify
    from lsq_export.progress import bar
    from lsq_export.report.recording import record
    from lsq_export.threads import using_threads

    from .data_options import first, load_data

    opened = open_bundle(bundle)
    shape = tuple(opened.manifest["input"]["shape"][1:])
    spec = data_spec or (opened.manifest["source"] or {}).get("data")
    data = load_data(spec, shape, option="--data", like=opened.manifest["preprocessing"])
    total = min(images or len(data.test), len(data.test))
    size = min(batch_size, total)
    batches = data.batches("test", size, limit=-(-total // size))
    with using_threads(threads), bar(console(stderr=True), "verify", len(batches)) as advance:
        parity = verify(None, opened, first(total, batches), progress=lambda n: advance(f"{n} images"))
    record(opened, parity)
    if as_json:
        print_json(parity.to_dict())
    else:
        print_parity(parity, layers=True)
        print_islands(parity)
        click.echo()
        print_verdict(parity)
    if not parity.ok:
        raise click.exceptions.Exit(FAILED)
