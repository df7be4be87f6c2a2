"""Types of arguments and options that name something: checked while the command line is read.

A wrong name is then said at once: nothing here imports torch, which takes seconds on a busy machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from calib.errors import QuantizationError
from lsq_export import models, targets
from lsq_export.data.specs import check_spec
from lsq_export.files.kinds import ONNX as ONNX

from .options import FilePath


class Name(click.ParamType):  # type: ignore[type-arg]
    """A name that `check` accepts. Errors: the QuantizationError of `check`."""

    def __init__(self, name: str, check: Callable[[str], Any]) -> None:
        self.name, self._check = name, check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        self._check(value)
        return value


class Place(FilePath):
    """A path that `check` accepts, as a Path. Errors: the QuantizationError of `check`."""

    def __init__(self, check: Callable[[Path], Any]) -> None:
        super().__init__(path_type=Path)
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        self._check(path)
        return path


def check_checkpoint(path: Path) -> None:
    """Errors (QuantizationError): no checkpoint of a low-bit network."""
    from lsq_export.training.checkpoint_header import check_trained

    if path.suffix == ONNX and path.is_file():
        raise QuantizationError(
            f"checkpoint {path} is an ONNX file, which is what export writes: inspect and bench take those"
        )
    check_trained(path)


def check_bundle(path: Path) -> None:
    """Errors (QuantizationError): no bundle."""
    from lsq_export.bundle.directory import WRITTEN, open_bundle

    if path.is_file():
        kinds = {ONNX: "an ONNX file: give its bundle", ".safetensors": "a checkpoint: lsq-export export it first"}
        advice = kinds.get(path.suffix, f"a file: give {WRITTEN}")
        raise QuantizationError(f"bundle {path} is not a directory but {advice}")
    if path.is_dir() and not (path / "manifest.json").exists() and (path.parent / "manifest.json").exists():
        raise QuantizationError(f"bundle {path} is a part of one: give {path.parent}")
    open_bundle(path)


def check_onnx(path: Path) -> None:
    """Errors (QuantizationError): a checkpoint, where ONNX files or bundles are read."""
    if path.suffix == ".safetensors" and path.is_file():
        raise QuantizationError(f"{path} is a checkpoint: lsq-export export makes the ONNX files, give those")


def check_adopted(path: Path) -> None:
    """Errors (QuantizationError): no file."""
    if path.is_dir() or not path.exists():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise QuantizationError(
            f"{path} {what}: give an ONNX file with QuantizeLinear and DequantizeLinear, or a checkpoint with --model"
        )


def check_float(path: Path) -> None:
    """Errors (QuantizationError): no ONNX file."""
    _check_network(path, "give a float ONNX file, or --model NAME with --float-checkpoint FILE")


def _check_network(path: Path, advice: str) -> None:
    if path.is_dir() or not path.exists():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise QuantizationError(f"{path} {what}: {advice}")
    check_onnx(path)


def check_timed(path: Path) -> None:
    """Errors (QuantizationError): nothing that can be timed."""
    if not path.exists():
        raise QuantizationError(f"{path} does not exist: give ONNX files, a bundle, a checkpoint, or --model NAME")
    if path.suffix == ".safetensors" and path.is_file():
        from lsq_export.training.checkpoint_header import fields_of, metadata_of

        fields_of(path, metadata_of(path))


MODEL = Name("name", models.check_name)
DATA = Name("spec", check_spec)
TARGET = Name("target", targets.get)
FORMAT = Name("format", lambda name: targets.check_formats([name]))
CHECKPOINT, BUNDLE, ONNX_PATH, TIMED = map(Place, (check_checkpoint, check_bundle, check_onnx, check_timed))
ANY_FILE = Place(lambda path: None)
ADOPTED, FLOAT_NETWORK = map(Place, (check_adopted, check_float))
