"""The options of commands that build the network of a checkpoint: which code of the user's may do it."""

from __future__ import annotations

import click

from .arguments import MODEL
from .options import Command, apply_options

trust_option = click.option(
    "--trust", is_flag=True, help="Import and call whatever code the checkpoint names. For files of your own."
)


def code_options(command: Command) -> Command:
    """Code that a checkpoint of a network of the user's own needs."""
    return apply_options(
        command,
        click.option(
            "--model",
            "named",
            type=MODEL,
            metavar="NAME",
            help="Build your own network with this package.module:factory, as train did. A checkpoint names it, but "
            "that alone runs nothing.  [default: only networks of lsq-export]",
        ),
        trust_option,
    )
