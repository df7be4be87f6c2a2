"""Errors of the library name arguments as Python has them; on the command line they are options."""

from __future__ import annotations

import re

FLAGS = ("force", "strict_integer", "bias_correction")
CHOICES = ("edges", "offset", "fold")
_FLAG = re.compile(rf"\b({'|'.join(FLAGS)})=True\b")
_CHOICE = re.compile(rf"\b({'|'.join(CHOICES)})=(['\"])([\w-]+)\2")
_LAYER = re.compile(r"\blayers\[(['\"])(.*?)\1\](=?)")
_IN_PYTHON = "; lsq_export.layer_names(model) lists them"


def in_options(message: str) -> str:
    """force=True becomes --force, edges='trained' --edges trained, layers['head']=9 --keep head=9; how Python lists
    layers is left out.
    """
    message = _LAYER.sub(lambda found: f"--keep {found[2]}{'=' if found[3] else ''}", message)
    message = message.replace(_IN_PYTHON, "")
    message = _FLAG.sub(lambda found: f"--{found[1].replace('_', '-')}", message)
    return _CHOICE.sub(lambda found: f"--{found[1]} {found[3]}", message)
