"""Names of data, checked without reading them and without torch: `digits`, `imagefolder:DIR`, `npz:FILE`, `npy:DIR`,
`testset:DIR`, `package.module:function`.
"""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path

from calib.errors import QuantizationError, near
from calib.words import counted
from lsq_export.models.own import check_found, is_there, reads_as_name

LARGEST_SIDE = 16_384  # pixels of an image, high and wide
IMAGES = ("digits", "imagefolder")  # of which the network gets to see what options say
FOLDERS = ("imagefolder", "npy", "testset")
KINDS = ("digits", "imagefolder", "npz", "npy", "testset")
FUNCTION = "function"
USE = "use digits, imagefolder:DIR, npz:FILE, npy:DIR, testset:DIR or package.module:function"
NEEDS = {"digits": ("sklearn", "scikit-learn"), "imagefolder": ("PIL", "pillow")}  # kind: (module, package)


def unknown(spec: str) -> QuantizationError:
    """The error for a name that is none, with what is near to it."""
    kind, _, argument = spec.partition(":")
    path = Path(spec)
    hint = near(kind, KINDS)
    if path.is_dir():
        hint = f" ({_kind_of(path)})"
    elif path.suffix == ".npz" and path.exists():
        hint = f" (npz:{spec})"
    elif kind == "digits" and argument:
        hint = " (digits takes no argument)"
    elif kind in KINDS and not argument:
        hint = f" (a {'directory' if kind in FOLDERS else 'file'} is missing after {kind}:)"
    return QuantizationError(f"data {spec!r} is unknown: {USE}{hint}")


def _kind_of(directory: Path) -> str:
    names = {path.suffix if path.is_file() else path.name for path in directory.iterdir()}
    if ".npy" in names:
        return f"npy:{directory}, if each file has one sample"
    if any(name.startswith("test_data_set_") for name in names):
        return f"testset:{directory}"
    return f"imagefolder:{directory}, if it has one folder of images for each class"


def check_spec(spec: str) -> str:
    """The kind of the data. Errors (QuantizationError): an unknown name, files that are not there or cannot be it, a
    missing package.
    """
    kind, _, argument = spec.partition(":")
    if kind not in KINDS and _is_function(kind, argument):
        check_found(spec, "data")
        return FUNCTION
    if kind not in KINDS or bool(argument) == (kind == "digits"):
        raise unknown(spec)
    module, package = NEEDS.get(kind, ("", ""))
    if module and find_spec(module) is None:
        raise QuantizationError(f"data {kind!r} needs {package}: pip install {package}")
    if kind == "imagefolder":
        _check_folder(Path(argument))
    elif kind == "npz":
        _check_archive(Path(argument))
    elif kind in FOLDERS and not Path(argument).is_dir():
        raise no_directory(Path(argument), kind)
    return kind


def _is_function(module_name: str, attribute: str) -> bool:
    """Whether it reads as one, and is no misspelled kind of data."""
    return reads_as_name(module_name, attribute) and (is_there(module_name) or not near(module_name, KINDS))


def no_directory(directory: Path, kind: str = "imagefolder") -> QuantizationError:
    """The error for a directory of data that is none."""
    problem = (
        "is a file: give its directory" if directory.exists() else f"does not exist{_here(directory)}: check the path"
    )
    what = "image directory" if kind == "imagefolder" else "data directory"
    return QuantizationError(f"{what} {directory} {problem} ({kind}:DIR)")


def _here(path: Path) -> str:
    """Where a relative path was looked for."""
    return "" if path.is_absolute() else f" in {Path.cwd()}"


def _check_folder(directory: Path) -> None:
    if not directory.is_dir():
        raise no_directory(directory)
    train = directory / "train"
    classes = [entry for entry in (train if train.is_dir() else directory).iterdir() if entry.is_dir()]
    if len([entry for entry in classes if not entry.name.startswith(".")]) < 2:
        raise QuantizationError(
            f"{directory} has {counted(len(classes), 'class folder')}: two or more are needed, each with its images"
        )


def _check_archive(path: Path) -> None:
    if not path.is_file():
        problem = "is a directory: give a file" if path.is_dir() else f"does not exist{_here(path)}: check the path"
        raise QuantizationError(f"data file {path} {problem} (npz:FILE)")
    if zipfile.is_zipfile(path):
        return
    with path.open("rb") as file:
        single = file.read(6) == b"\x93NUMPY"
    if single:
        raise QuantizationError(f"{path} is a single array (.npy): write an archive with numpy.savez(path, x=…, y=…)")
