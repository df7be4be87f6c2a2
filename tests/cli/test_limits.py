"""Numbers that no library counts to, paths that no file system has, what the machine refuses: one line, exit code 2."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from calib.errors import DamagedError, QuantizationError
from lsq_export.cli.group import OneLineErrors
from support.commands import invoke
from support.exported import Exported

TRAIN = ("train", "--model", "tiny", "--data", "digits", "--out", "new.safetensors")
LONG = "x" * 5000


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            (*TRAIN, option, value)
            for option in ("--seed", "--batch-size", "--epochs")
            for value in (str(2**64), "9" * 30)
        ),
        *((*TRAIN, "--seed", str(-(2**64))), (*TRAIN, "--image-size", "9" * 20), (*TRAIN, "--threads", "9" * 20)),
        *(("verify", ".", option, "9" * 20) for option in ("--images", "--batch-size", "--threads")),
        *(("export", "x", "--out", "y", "--images", "9" * 20), ("bench", ".", "--batch", "9" * 20)),
        *((*TRAIN, option, "16385") for option in ("--image-size", "--resize")),
        *(("drift", "x", "--image-size", "16385"), ("qat-speed", "--size", "16385"), ("init-speed", "--size", "16385")),
        *(("bench", ".", "--size", "16385"), ("bench", ".", "--threads", "100000"), (*TRAIN, "--threads", "100000")),
        *((command, "x", "--threads", "100000") for command in ("export", "verify", "folds", "drift")),
        *((command, "--threads", "100000") for command in ("demo", "qat-speed", "init-speed")),
    ],
    ids=lambda arguments: " ".join(arguments)[-60:],
)
def test_a_number_that_nothing_counts_to_is_refused(arguments: tuple[str, ...]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "is too large: use " in result.stderr


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize(
    "arguments",
    [
        *((*TRAIN, option) for option in ("--lr", "--float-lr", "--grid-lr", "--offset-lr", "--temperature")),
        *((*TRAIN, option) for option in ("--label-smoothing", "--ema", "--distill")),
        *(("drift", "x", option) for option in ("--max-clipped", "--min-codes", "--max-error")),
        ("bench", ".", "--pause"),
    ],
    ids=lambda arguments: arguments[-1],
)
def test_every_number_is_finite(arguments: tuple[str, ...], value: str) -> None:
    result = invoke(*arguments[:-1], f"{arguments[-1]}={value}")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "\nTraceback" not in result.stderr
    assert arguments[-1] in result.stderr and ("use a finite number" in result.stderr or "range" in result.stderr)


def test_a_pause_that_no_clock_can_wait_is_refused() -> None:
    result = invoke("bench", ".", "--pause", "1e300")
    assert result.exit_code == 2 and "is not in the range 0<=x<=3600" in result.stderr


def test_a_file_that_cannot_come_into_being_is_found_before_the_work() -> None:
    """The folder is there, and its mode says that root may write."""
    for arguments in (
        ("train", "--model", "tiny", "--data", "digits", "--out", "/proc/new.safetensors"),
        (*TRAIN, "--float-out", "/proc/new.safetensors"),
        ("bench", "--model", "tiny", "--json", "/proc/new.json"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 2 and ".tmp" not in result.stderr and result.stderr.count("\n") == 1
        assert f"{arguments[-2]} {arguments[-1]} " in result.stderr, result.stderr


@pytest.mark.parametrize("path", ["", LONG, "a/" * 3000])
@pytest.mark.parametrize(
    "arguments",
    [
        *(("verify", "@"), ("inspect", "@"), ("report", "@"), ("bench", "@"), ("drift", "@", "--data", "digits")),
        *(("folds", "@"), ("export", "@", "--out", "y"), ("export", "x", "--out", "@"), ("demo", "--out", "@")),
        *((*TRAIN, option, "@") for option in ("--out", "--float-out", "--float-checkpoint", "--log", "--layers")),
        *((*TRAIN, "--data", f"{kind}:@") for kind in ("npz", "imagefolder")),
        *((*TRAIN, "--model", "@"), ("bench", "--model", "tiny", "--json", "@")),
    ],
    ids=" ".join,
)
def test_a_path_that_no_file_system_has_is_refused(arguments: tuple[str, ...], path: str) -> None:
    result = invoke(*(argument.replace("@", path) for argument in arguments))
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and result.stdout == "", result.stderr[:300]


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (MemoryError("Unable to allocate 9 GiB"), 2, "not enough memory for that (Unable to allocate 9 GiB)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "not enough memory"),
        (PermissionError(13, "Permission denied", "secret"), 2, "error: secret: Permission denied"),
        (OSError(5, "Input/output error"), 2, "error: Input/output error"),
        (DamagedError("bundle x: damaged"), 1, "error: bundle x: damaged"),
        (QuantizationError(f"bad {'x' * 9000}: give another"), 2, "xxx … xxx"),
        (ZeroDivisionError("ours"), 70, "an error of lsq-export itself"),
    ],
)
def test_whose_fault_an_error_is(error: Exception, code: int, says: str) -> None:
    @click.command(cls=OneLineErrors)
    def command() -> None:
        raise error

    result = invoke(command=command)
    assert result.exit_code == code and says in result.stderr and result.stderr.count("\n") == 1


def test_arrays_that_are_none(exported: Exported, tmp_path: Path) -> None:
    import zipfile

    x, y = np.zeros((4, 1, 16, 16), np.float32), np.arange(4) % 2
    whole = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    path = tmp_path / "d.npz"
    for changed, says in (
        ({"y_test": np.full(4, 2**64 - 1, np.uint64)}, "y_test holds the label 18446744073709551615"),
        ({"y_test": np.full(4, 2**62)}, "y_test holds the label 4611686018427387904"),
    ):
        np.savez(path, **{**whole, **changed})
        result = invoke("drift", exported.checkpoint, "--data", f"npz:{path}")
        assert result.exit_code == 2 and says in result.stderr and result.stderr.count("\n") == 1
    np.savez(path, **whole)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "just text")
    result = invoke("drift", exported.checkpoint, "--data", f"npz:{path}")
    assert result.exit_code == 2 and "notes.txt is no array" in result.stderr
    header = b"\x93NUMPY\x01\x00\x76\x00" + str({"descr": "<f4", "fortran_order": False, "shape": (2**50,)}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.ljust(127) + b"\n")
    result = invoke("drift", exported.checkpoint, "--data", f"npz:{path}")
    assert result.exit_code == 2 and "more than there is memory for" in result.stderr


def test_images_that_are_none(exported: Exported, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("L", (16, 16), number).save(tmp_path / name / f"{number}.png")
    drift = (
        "drift",
        exported.checkpoint,
        "--data",
        f"imagefolder:{tmp_path}",
        "--split",
        "all",
        "--against",
        exported.data,
    )
    image = tmp_path / "a" / "0.png"
    for make, says in (
        (lambda: Image.new("L", (5000, 1)).save(image), "has 5000 × 1 pixels, too narrow"),
        (lambda: image.symlink_to("/dev/zero"), "0.png is missing, or no regular file"),
        (lambda: image.symlink_to("nowhere"), "0.png is missing, or no regular file"),
        (lambda: image.write_bytes(b"\x89PNG"), "0.png cannot be read ("),
    ):
        image.unlink()
        make()
        result = invoke(*drift)
        assert result.exit_code == 2 and says in result.stderr.splitlines()[-1] and "Traceback" not in result.stderr
    image.unlink()
    Image.new("L", (1, 1)).save(image)
    assert invoke(*drift).exit_code in (0, 1)
