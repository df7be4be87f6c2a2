"""Errors of the library name arguments as Python has them; on the command line they are options."""

from __future__ import annotations

import re

FLAGS = ("force", "strict_integer", "bias_correction")
CHOICES = ("edges", "offset", "fold")
_FLAG = re.compile(rf"\b({'|'.join(FLAGS)})=True\b")
_CHOICE = re.compile(rf"\b({'|'.join(CHOICES)})=(['\"])([\w-]+)\2")


def in_options(message: str) -> str:
    """force=True becomes --force, edges='trained' becomes --edges trained."""
    message = _FLAG.sub(lambda found: f"--{found[1].replace('_', '-')}", message)
    return _CHOICE.sub(lambda found: f"--{found[1]} {found[3]}", message)
