"""Commands in the process of the test."""

from __future__ import annotations

import click
from click.testing import CliRunner, Result

from lsq_export.cli import cli

# The smallest network on the smallest images.
TINY_DIGITS = ("--model", "tiny", "--data", "digits", "--image-size", "8")


def invoke(*arguments: object, command: click.Command = cli) -> Result:
    """What `lsq-export ARGUMENTS` prints and exits with, or that of another command."""
    return CliRunner().invoke(command, [str(argument) for argument in arguments])
