"""lsq-export verify: does a bundle do what the trained model did?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from calib.errors import QuantizationError
from calib.lazy import is_installed
from calib.words import counted

from .arguments import BUNDLE, DATA
from .group import FAILED
from .options import Count
from .output import console, print_json, say
from .parity_table import print_islands, print_parity, print_verdict
from .summary_lines import print_line, print_summary, verbose_option
from .thread_options import threads_option

if TYPE_CHECKING:
    from lsq_export.bundle.directory import Bundle
    from lsq_export.data.dataset import Dataset
    from lsq_export.verification.against_float import AgainstFloat
    from lsq_export.verification.parity import Parity

_SHOWN = 5  # names in a line


@click.command("verify")
@click.argument("bundle", type=BUNDLE)
@click.option(
    "--data",
    "data_spec",
    type=DATA,
    metavar="SPEC",
    help="Run on the test split of these data.  [default: those that the bundle was made with]",
)
@click.option("--images", type=Count(1), help="Take at most this many images.  [default: the whole test split]")
@click.option("--batch-size", type=Count(1), default=64, help="Run this many images at a time.")
@click.option("--record", "forced", is_flag=True, help="Keep this result in the bundle, even in place of a better one.")
@click.option("--no-write", is_flag=True, help="Print the result alone, and change nothing in the bundle.")
@click.option(
    "--public-key",
    metavar="KEY",
    help="Check first that this key (a file, or its second line) signed the bundle as it is; see `lsq-export sign`.",
)
@threads_option()
@verbose_option
@click.option("--json", "as_json", is_flag=True, help="Print the parity as JSON on stdout.")
def command(
    bundle: Path,
    data_spec: str | None,
    images: int | None,
    batch_size: int,
    threads: int | None,
    forced: bool,
    no_write: bool,
    public_key: str | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Check a bundle in ONNX Runtime against the integer reference, the folded and the trained model, layer by layer.

    Prints a summary, and says where the data are not what the bundle was made for. Writes parity.json and report.html
    in the bundle, unless they hold a better result: on its own data, on more images. A bundle that cannot be written is
    verified all the same. Exit code 1 if a promise does not hold. Without PyTorch it checks the files, the golden
    vectors and ONNX Runtime's integers, on the golden inputs and on those of --data npz:FILE, and writes nothing.
    """
    no_write = _stays_as_it_is(bundle, public_key, forced, no_write)
    if not is_installed("torch"):
        from .received_lines import verify_received

        raise click.exceptions.Exit(verify_received(bundle, data_spec, images, as_json))
    from lsq_export.bundle.directory import open_bundle

    from .data_options import check_known, load_data

    if data_spec is None:
        opened = open_bundle(bundle)
        with _the_manifests_fault(opened):
            check_known((opened.manifest.get("source") or {}).get("data"), option="--data")
    from lsq_export.bundle.sums import strange_files
    from lsq_export.data.differences import input_shape_of
    from lsq_export.report.recording import against_float_of, record_better, settle_records
    from lsq_export.threads import using_threads

    opened = open_bundle(bundle)
    if not no_write:
        _written(lambda: settle_records(opened))
    cost = against_float_of(opened)  # a damaged one ends here, before all that takes time
    shape = input_shape_of(opened.manifest)
    spec = data_spec or (opened.manifest.get("source") or {}).get("data")
    with _the_manifests_fault(opened):
        data = load_data(spec, shape, option="--data", like=opened.manifest.get("preprocessing"))
    with using_threads(threads):
        parity = replace(_verify(opened, data, images, batch_size), data=spec, split="test")
    for line in parity.differences:
        say(f"other data: {line}", err=True)
    _say_strange(strange_files(opened))
    kept = None if no_write else _written(lambda: record_better(opened, parity, force=forced))
    if as_json:
        print_json({**parity.to_dict(), **({"against_float": cost.to_dict()} if cost is not None else {})})
    else:
        _print(opened, parity, cost, verbose=verbose)
    if kept:
        say(kept, err=True)
    if not parity.ok:
        raise click.exceptions.Exit(FAILED)


def _say_strange(strange: Sequence[str]) -> None:
    if strange:
        more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        say(f"not checked, since no sum lists it: {', '.join(strange[:_SHOWN])}{more}", err=True)


def _stays_as_it_is(directory: Path, public_key: str | None, forced: bool, no_write: bool) -> bool:
    """Whether nothing may be written: a signature covers it. Checks the signature first, if a key was given.

    Errors (DamagedError): another signature, or files that are not what was signed.
    """
    from lsq_export.bundle.layout import SIGNATURE

    if forced and no_write:
        raise click.UsageError("--record writes the result into the bundle and --no-write does not: give one of them")
    if forced and public_key:
        raise click.UsageError("--record changes what --public-key checks: verify, record and sign again")
    if public_key is not None:
        from lsq_export.signing.bundle_signature import check_signature

        say(f"signature      of the key {check_signature(directory, public_key)}, over every file", err=True)
        return True
    if (directory / SIGNATURE).exists() and not forced and not no_write:
        say("the bundle is signed, so the result is not kept in it (--record keeps it: sign again then)", err=True)
        return True
    return no_write


@contextmanager
def _the_manifests_fault(bundle: Bundle) -> Iterator[None]:
    """Data that do not fit what the manifest says: if that is not what the ONNX files say, it is what is wrong.

    Errors (DamagedError): it contradicts them.
    """
    try:
        yield
    except QuantizationError:
        from lsq_export.bundle.subject import subject_of

        subject_of(bundle)
        raise


def _written(write: Callable[[], str | None]) -> str | None:
    """What it says; of a bundle that cannot be written, that it cannot: it is verified all the same."""
    try:
        return write()
    except QuantizationError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        return f"the result is not kept in the bundle: {error}"


def _verify(bundle: Bundle, data: Dataset, images: int | None, batch_size: int) -> Parity:
    from lsq_export.data.differences import differences
    from lsq_export.pipeline import verify
    from lsq_export.progress import bar

    from .data_options import first

    total = min(images or len(data.test), len(data.test))
    size = min(batch_size, total)
    batches = data.batches("test", size, limit=-(-total // size))
    with bar(console(stderr=True), "verify", len(batches)) as advance:
        parity = verify(None, bundle, first(total, batches), progress=lambda n: advance(counted(n, "image")))
    return replace(parity, differences=tuple(differences(bundle.manifest, data)))


def _print(bundle: Bundle, parity: Parity, cost: AgainstFloat | None, *, verbose: bool) -> None:
    from lsq_export.bundle.directory import REPORT
    from lsq_export.verification.against_float import LABEL

    print_summary(bundle.manifest, parity, beside_float=cost is not None)
    if cost is not None:
        print_line(LABEL, f"{cost.sentence} (calibrate measured it)")
    if not verbose:
        print_line("tables", f"{bundle.directory / REPORT}, or -v")
    print_verdict(parity, cost)
    if verbose:
        say()
        print_parity(parity, layers=True)
        print_islands(parity)
