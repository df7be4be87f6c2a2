"""`npy:DIR`: samples in .npy files; for a network with several inputs, in a directory for each of them.

    DIR/0.npy, DIR/1.npy, …                or                DIR/image/0.npy, …, DIR/tokens/0.npy, …

Each file holds one sample as the network takes it, or a batch of them, in the order of the numbers in their names. They
are read when a batch is made, so that data larger than memory work. 80 % of the samples are for calibration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calib.errors import QuantizationError, one_line
from calib.samples import Samples
from calib.words import counted

from .array_rows import Wanted, as_taken, checked_kind, dataset_of
from .dataset import Dataset
from .splitting import stratified_split

Row = tuple[Path, "int | None"]  # a file, and which of its samples; None: it is one


@dataclass(frozen=True, repr=False)
class NpySplit:
    """Samples by input, which are read on demand. single: the network gets the tensor without the name."""

    rows: Mapping[str, tuple[Row, ...]]
    single: bool

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    def __repr__(self) -> str:
        return f"NpySplit({counted(len(self), 'sample')} of {', '.join(self.rows)})"

    def fetch(self, index: torch.Tensor) -> tuple[Any, torch.Tensor]:
        chosen = {name: [_read(*rows[i]) for i in index.tolist()] for name, rows in self.rows.items()}
        x = {name: torch.from_numpy(np.stack(arrays)) for name, arrays in chosen.items()}
        return next(iter(x.values())) if self.single else Samples(x), torch.empty((len(index), 0), dtype=torch.int64)

    def without_name(self) -> NpySplit:
        """Of one input: the tensor alone."""
        return NpySplit(self.rows, single=True)

    def part(self, index: np.ndarray) -> NpySplit:
        """These samples alone."""
        return NpySplit({name: tuple(rows[i] for i in index) for name, rows in self.rows.items()}, self.single)


def load_npy(directory: Path, wanted: Wanted) -> Dataset:
    """The data set of a directory of .npy files. Where nothing is known of the network, each file is a sample.

    Errors (QuantizationError): no such files, damaged or pickled ones, of several shapes or types, inputs with other
    numbers of samples.
    """
    found = {name: _input(name, files, wanted) for name, files in inputs_in(directory).items()}
    counts = {name: len(rows) for name, (rows, _) in found.items()}
    if len({*counts.values()}) > 1:
        raise QuantizationError(f"npy:{directory} has {_listed(counts)}: give each input as many")
    single = next(iter(found)) == ""
    everything = NpySplit({name: rows for name, (rows, _) in found.items()}, single)
    train, test = stratified_split(np.zeros(len(everything)), f"npy:{directory}")
    shapes = {name: shape for name, (_, shape) in found.items()}
    splits = everything.part(train), everything.part(test)
    return dataset_of(f"npy:{directory}", "npy", splits, shapes[""] if single else shapes, 0, own=False)


def inputs_in(directory: Path) -> dict[str, list[Path]]:
    """{input: its files}, "" for the only one. Errors (QuantizationError): no files, or a directory without any."""
    files, folders = _arrays_in(directory), sorted(p for p in directory.glob("[!.]*") if p.is_dir())
    found = {folder.name: _arrays_in(folder) for folder in folders}
    if files and any(found.values()):
        raise QuantizationError(
            f"{directory} has .npy files and directories of them: give files for one input, or a directory for each of "
            "several (npy:DIR)"
        )
    if files:
        return {"": files}
    empty = next((name for name, inside in found.items() if not inside), None)
    if not found or empty is not None:
        raise QuantizationError(
            f"{directory if empty is None else directory / empty} holds no .npy file: put one for each sample there, "
            "or, of several inputs, a directory of them for each (npy:DIR)"
        )
    return found


def _arrays_in(directory: Path) -> list[Path]:
    """In the order of the numbers in their names: 2 before 10."""
    files = [path for path in directory.glob("[!.]*.npy") if path.is_file()]
    return sorted(files, key=lambda path: [(len(part), part) for part in re.split(r"(\d+)", path.stem)])


def _listed(counts: Mapping[str, int]) -> str:
    return " and ".join(f"{counted(count, 'sample')} of {name}" for name, count in counts.items())


def _input(name: str, files: list[Path], wanted: Wanted) -> tuple[tuple[Row, ...], tuple[int, ...]]:
    """The samples of one input, and their shape."""
    rows: list[Row] = []
    first, kind = None, None
    for path in files:
        array = _opened(path)
        checked_kind(str(path), array.dtype)
        batch = wanted.is_batch(str(path), name, array.shape, unknown=False)
        shape = tuple(array.shape[1:] if batch else array.shape)
        first, kind = first or (path, shape), kind or array.dtype.kind
        if (shape, array.dtype.kind) != (first[1], kind):
            raise QuantizationError(
                f"{path} has samples {array.dtype} of shape {list(shape)}, {first[0].name} others, of shape "
                f"{list(first[1])}: give one type and shape"
            )
        rows += [(path, row) for row in range(len(array))] if batch else [(path, None)]
    assert first is not None
    return tuple(rows), first[1]


def _opened(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header raises whatever its parser does
        raise QuantizationError(f"{path} is no array that can be read ({one_line(error)}): write it anew") from error
    if not isinstance(array, np.ndarray):
        raise QuantizationError(f"{path} is an archive of arrays: name it data.npz and give npz:FILE")
    return array


def _read(path: Path, row: int | None) -> np.ndarray:
    array = _opened(path)
    return as_taken(str(path), array if row is None else array[row])
