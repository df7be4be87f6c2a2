"""lsq-export lint: what of any ONNX file a deployment target cannot read, or computes otherwise."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from calib.words import counted
from lsq_export import targets

from .arguments import ONNX_PATH, Name
from .group import FAILED
from .options import Count
from .output import print_json, say

if TYPE_CHECKING:
    from lsq_export.linting.lint_file import Finding, Lint

ALL = "all"


def check_target(name: str) -> None:
    """Errors (QuantizationError): no target, and not "all"."""
    if name != ALL:
        targets.get(name)


@click.command("lint")
@click.argument("path", metavar="FILE", type=ONNX_PATH)
@click.option(
    "--target",
    type=Name("target", check_target),
    metavar="NAME",
    default="ort-cpu",
    help="Check for this target, or all of them; see `lsq-export targets`.",
)
@click.option("--places", type=Count(1), default=3, help="Name this many nodes that break a rule; JSON has all.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(path: Path, target: str, places: int, as_json: bool) -> None:
    """Say what of an ONNX file a target cannot read, or computes otherwise: ours or anybody's, without running it.

    Each rule that is broken: the nodes, where the rule comes from, and what to do. Exit code 1 if one is broken; notes
    (slower, or not right on every processor) are none. With external data beside it, a file can be of any size.
    """
    from lsq_export.linting.lint_file import against
    from lsq_export.linting.onnx_file import open_model

    file = open_model(path)
    chosen = targets.everything() if target == ALL else [targets.get(target)]
    found = [against(file, one) for one in chosen]
    if as_json:
        print_json([{**asdict(one), "ok": one.ok} for one in found])
    else:
        for one in found:
            _print(one, places)
    if not all(one.ok for one in found):
        raise click.exceptions.Exit(FAILED)


def _print(found: Lint, places: int) -> None:
    errors = sum(not finding.is_note for finding in found.findings)
    notes = len(found.findings) - errors
    verdict = "passes" if found.ok else f"{counted(errors, 'rule')} broken"
    more = f", {counted(notes, 'note')}" if notes else ""
    say(f"{found.target}: {verdict}{more}")
    for finding in found.findings:
        _print_finding(finding, places)


def _print_finding(finding: Finding, places: int) -> None:
    say(f"  {'note' if finding.is_note else 'error'} {finding.rule}")
    for place in finding.places[:places]:
        say(f"    {place.node}: {place.what}")
    if len(finding.places) > places:
        say(f"    and {len(finding.places) - places:,} more")
    say(f"    instead: {finding.instead}")
    say(f"    source:  {finding.source}")
