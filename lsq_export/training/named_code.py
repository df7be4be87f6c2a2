"""What may build the network of a checkpoint: nothing that the user did not name. Read without torch.

A checkpoint of a network of the user's own holds no code, but the name of some: `package.module:factory`. Whoever wrote
the file chose that name, and the current directory, which is searched first, may be theirs, too.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from calib.errors import QuantizationError
from lsq_export.models.own import is_own, parts

from .checkpoint_header import fields_of, metadata_of


def builder(path: str | os.PathLike[str], name: str, model: str | None = None, trust: bool = False) -> str:
    """The name of what builds the network of the checkpoint `path`, which says that it was `name`.

    model: what the user named, in place of that. trust: take what the checkpoint names. Errors (QuantizationError): a
    network of the user's own that the user did not name; a name for a network that is not.
    """
    if not is_own(name):
        if model not in (None, name):
            raise QuantizationError(
                f"checkpoint {path} is of {name}, a network of lsq-export, not of {model!r}: leave --model out"
            )
        return name
    if model is None and not trust:
        raise QuantizationError(
            f"checkpoint {path} names the code {name!r}, which runs only if you name it, too: give --model {name} "
            f"if it is yours, or --trust (in Python model={name!r} or trust=True)"
        )
    if model is not None and not is_own(model):
        raise QuantizationError(
            f"checkpoint {path} was built by {name!r}, not by {model}, a network of lsq-export: give --model {name} "
            "if that is yours"
        )
    return model or name


def check_builder(path: Path, model: str | None, trust: bool) -> None:
    """As `builder`, of a file: before anything is imported. Errors (QuantizationError): a damaged file, too."""
    builder(path, named_in(path), model, trust)


def named_in(path: Path) -> str:
    """The name of the network in a checkpoint. Errors (QuantizationError): a damaged file."""
    spec = fields_of(path, metadata_of(path))["model"]
    check_spec(path, spec)
    return str(spec["name"])


def allowed_builder(path: Path, named: Collection[str]) -> str:
    """The name of what builds the network of a file. Errors (QuantizationError): the user's own, and not in `named`."""
    name = named_in(path)
    return builder(path, name, name if name in named else None)


def check_spec(path: Path, spec: Any) -> None:
    """Check that what the file can pass to the code that it names is harmless. Errors: QuantizationError."""
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise QuantizationError(
            f"checkpoint {path}: the model is {spec!r}, it must be a table with the name of the model"
        )
    if is_own(spec["name"]):
        try:
            parts(spec["name"])
        except QuantizationError as error:
            raise QuantizationError(f"checkpoint {path}: {error}") from error
    for key, value in spec.items():
        if key in ("num_classes", "in_channels") and (type(value) is not int or value < 1):
            raise QuantizationError(
                f"checkpoint {path}: {key} of the model is {value!r}, it must be a positive integer"
            )
        if not isinstance(value, (str, int, float, bool)):
            raise QuantizationError(
                f"checkpoint {path}: {key} of the model is {value!r}, it must be a number, a string or a truth value"
            )
        if is_own(spec["name"]) and key not in ("name", "num_classes", "in_channels"):
            raise QuantizationError(
                f"checkpoint {path}: {key} cannot be kept for a model of your own; put it into the factory "
                f"{spec['name']!r}"
            )
