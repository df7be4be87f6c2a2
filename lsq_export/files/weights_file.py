"""Reading weights that other programs saved: safetensors, or what torch.save writes. Nothing in a file is executed.

    content, metadata = read(Path("net.pth"))

What a file is shows in its first bytes, whatever its name is.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import re
import types
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from calib.errors import QuantizationError, one_line

from . import sealed
from .kinds import HEAD, is_safetensors

SAVE = "where it was made, save the weights alone: torch.save(model.state_dict(), FILE)"
_OTHER_KINDS = {  # what people download by mistake: first bytes -> what it is, and what to do
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself: run git lfs pull",
    b"<": "is a web page: download the file itself",
    b"\x89HDF": "is an HDF5 file (Keras): give the weights of a PyTorch network",
    b"\x1f\x8b": "is compressed with gzip: unpack it first",
}
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")  # how torch names an object that it does not make
_REASON = re.compile(r"(?:WeightsUnpickler|Unpickler) error:\s*(.*?)(?:\. | Check the doc|$)")


def _harmless() -> list[Any]:
    """Plain values that trainings keep beside the weights. To read them calls nothing but their constructors."""
    numbers = [type(np.dtype(name)) for name in ("float64", "float32", "float16", "int64", "int32", "bool")]
    scalar = np.float64(0).__reduce__()[0]
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    paths = [(pathlib.PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")]
    return [
        argparse.Namespace,
        types.SimpleNamespace,
        collections.defaultdict,
        list,
        np.dtype,
        *numbers,
        *names,
        *paths,
    ]


def read(path: Path) -> tuple[Any, dict[str, str]]:
    """(what was saved, the metadata of a safetensors file).

    What was saved is {name: tensor} in a safetensors file, and anything that torch.save takes in other files, on the
    CPU. Large files are mapped into memory instead of being read, where their format allows it.

    Errors (QuantizationError): no such file, damaged, something else, Python objects that reading would have to run.
    """
    if not path.is_file():
        problem = "is a directory: name the file in it" if path.is_dir() else "does not exist: check the path"
        raise QuantizationError(f"checkpoint {path} {problem}, or train one with lsq-export train")
    with path.open("rb") as file:
        head = file.read(HEAD)
    for start, problem in _OTHER_KINDS.items():
        if head.startswith(start):
            raise QuantizationError(f"checkpoint {path} {problem}")
    if is_safetensors(head):
        return _read_safetensors(path)
    if head[:2] == b"PK":
        _check_archive(path)
    return _read_torch(path, zipped=head[:2] == b"PK"), {}


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        return sealed.read(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise QuantizationError(f"checkpoint {path} is damaged ({one_line(error)}): copy or save it again") from error


def _check_archive(path: Path) -> None:
    """Errors (QuantizationError): a ZIP archive that torch.save did not write."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError) as error:
        raise QuantizationError(f"checkpoint {path} is damaged ({one_line(error)}): copy or save it again") from error
    if "constants.pkl" in names:
        raise QuantizationError(f"checkpoint {path} is a TorchScript program, which is code: {SAVE}")
    if "data.pkl" not in names:
        raise QuantizationError(f"checkpoint {path} is a ZIP archive that torch.save did not write: {SAVE}")


def _read_torch(path: Path, zipped: bool) -> Any:
    """What torch.save wrote. zipped: its format since PyTorch 1.6, which can be mapped."""
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_harmless()):
            warnings.simplefilter("ignore")  # about pickle protocols: what cannot be read is an error below
            if zipped and path.suffix != ".safetensors":
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            with path.open("rb") as file:  # torch.load would go by such a name
                return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles raise whatever comes first
        text = one_line(error)
        found = _GLOBAL.search(text)
        if found is not None:
            what = f"holds a whole model or other Python objects ({found[1]}), and to read them would run their code"
            raise QuantizationError(f"checkpoint {path} {what}: {SAVE}") from error
        inner = _REASON.search(text)
        reason = inner[1] if inner else f"{type(error).__name__}: {text[:160]}".rstrip(": ")
        raise QuantizationError(
            f"checkpoint {path} is damaged, or neither safetensors nor written by torch.save ({reason}): {SAVE}"
        ) from error
