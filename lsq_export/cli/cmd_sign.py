"""lsq-export sign: a signature of all files of a bundle, in minisign's format."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .arguments import BUNDLE
from .options import FilePath
from .output import say


@click.command("sign")
@click.argument("bundle", type=BUNDLE)
@click.option(
    "--key",
    required=True,
    type=FilePath(path_type=Path),
    metavar="FILE",
    help="Sign with this secret key, which minisign -G made.",
)
@click.option("--force", is_flag=True, help="Replace the signature that is there.")
def command(bundle: Path, key: Path, force: bool) -> None:
    """Sign a bundle: SHA256SUMS.minisig covers SHA256SUMS, and with it every file.

    `lsq-export verify BUNDLE --public-key FILE` checks it, and so does minisign -Vm SHA256SUMS -p FILE. Sign last:
    `verify`, `report` and `bench --json` in the bundle change sums. Needs the package cryptography.
    """
    from lsq_export.signing.bundle_signature import sign

    def ask() -> str:
        password: str = click.prompt("password of the key", hide_input=True, err=True)
        return password

    path = sign(bundle, key, ask if sys.stdin.isatty() else None, force=force)
    say(f"wrote {path}")
