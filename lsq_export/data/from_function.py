"""`package.module:batches`: a Python function of the user's that gives batches, as `lsq_export.calibrate` takes them.

    def batches():
        for file in files:
            yield prepared(file)                # [N, …], (x, classes), {"image": …, "mask": …}, or one sample

Its batches are read once and stay in memory, up to LARGEST bytes or MOST samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from calib.batches import CLASSES
from calib.errors import QuantizationError, one_line, warn
from calib.samples import shape_of
from lsq_export.models.own import imported

from .array_rows import Named, Wanted, as_taken, dataset_of, drawn, forms_of, joined
from .dataset import Dataset, TensorSplit

LARGEST, MOST = 2**30, 10_000


def load_function(spec: str, wanted: Wanted) -> Dataset:
    """The data set of what the function yields: 80 % of the samples are for calibration.

    Errors (QuantizationError): it cannot be found, fails, or yields something else; batches of several shapes or types.
    """
    read = _read(spec, imported(spec, "data"), wanted)
    if not read:
        raise QuantizationError(f"data {spec!r}: the function gives no batch: give at least two samples")
    first = read[0][0]
    for index, (found, _) in enumerate(read):
        if forms_of(found) != forms_of(first):
            raise QuantizationError(f"data {spec!r}: batch {index} has {_told(found)}, the first one {_told(first)}")
    x = joined([x for x, _ in read], first)
    ys = [y for _, y in read if y is not None]
    classes = np.concatenate(ys) if len(ys) == len(read) else np.empty((len(x), 0), np.int64)
    everything = TensorSplit(x, torch.from_numpy(classes))
    count = 1 + int(classes.max()) if classes.ndim == 1 else 0
    return dataset_of(spec, "function", drawn(everything, f"data {spec!r}"), shape_of(x), count, own=False)


def _told(x: Named) -> str:
    return " and ".join(f"{name or 'inputs'} {a.dtype} of shape {list(a.shape[1:])}" for name, a in x.items())


def _read(spec: str, function: Callable[[], Any], wanted: Wanted) -> list[tuple[Named, np.ndarray | None]]:
    """(inputs, classes or None) of each batch, up to the limits."""
    found: list[tuple[Named, np.ndarray | None]] = []
    samples = size = 0
    try:
        for index, batch in enumerate(function()):
            x, y = _parts(f"data {spec!r}: batch {index}", batch, wanted)
            found.append((x, y))
            samples += len(next(iter(x.values())))
            size += sum(array.nbytes for array in x.values())
            if samples >= MOST or size >= LARGEST:
                warn(
                    f"data {spec!r}: the first {samples:,} samples ({size / 1e9:.1f} GB) are taken, no others are read"
                )
                break
    except (KeyboardInterrupt, QuantizationError):
        raise
    except BaseException as error:  # a user's function can raise anything
        advice = "; it takes no arguments and gives batches" if isinstance(error, TypeError) else ""
        raise QuantizationError(f"data {spec!r} failed: {type(error).__name__}: {one_line(error)}{advice}") from error
    return found


def _parts(where: str, batch: Any, wanted: Wanted) -> tuple[Named, np.ndarray | None]:
    target = None
    if isinstance(batch, Mapping):
        target = next((batch[key] for key in CLASSES if key in batch and key not in wanted.names), None)
        given = {name: batch[name] for name in wanted.names or batch if name in batch}
        given = {name: value for name, value in given.items() if value is not target}
    else:
        parts, count = _split(where, batch, wanted), max(1, len(wanted.names))
        given = dict(zip(wanted.names or ("",), parts, strict=False))
        target = parts[count] if len(parts) > count else None
    missing = next((name for name in wanted.names if name not in given), None)
    if missing is not None or not given:
        has = ", ".join(map(str, batch)) if isinstance(batch, Mapping) else f"{len(given)} arrays"
        raise QuantizationError(f"{where} has no {missing or 'input'}, only {has}: give the inputs by their names")
    x = {str(name): _rows(f"{where}: {name}".removesuffix(": "), str(name), v, wanted) for name, v in given.items()}
    counts = {len(array) for array in x.values()}
    if len(counts) > 1 or counts == {0}:
        raise QuantizationError(f"{where}: its inputs have {sorted(counts)} samples: give as many of each, and some")
    return x, _classes(target, counts.pop())


def _split(where: str, batch: Any, wanted: Wanted) -> list[Any]:
    """The inputs, and the target if there is one. A list of samples of one input is a batch of them.

    Errors (QuantizationError): more parts than that.
    """
    if not isinstance(batch, (tuple, list)):
        return [batch]
    parts, most = list(batch), max(1, len(wanted.names)) + 1
    shapes = {np.shape(part) for part in parts}
    if most == 2 and isinstance(batch, list) and len(shapes) == 1:
        (shape,) = shapes
        if len(parts) > most or len(shape) == wanted.axes(""):
            return [np.stack([np.asarray(part) for part in parts])]
    if len(parts) > most:
        raise QuantizationError(
            f"{where} has {len(parts)} parts, the network takes {most - 1} (and a target): give arrays [N, …]"
        )
    return parts


def _rows(where: str, name: str, value: Any, wanted: Wanted) -> np.ndarray:
    """[N, …] in the type in which the network takes it."""
    array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
    values = as_taken(where, array)
    return values if wanted.is_batch(where, name, array.shape, unknown=array.ndim > 0) else values[None]


def _classes(target: Any, count: int) -> np.ndarray | None:
    """[N], where the target is a class for each sample."""
    y = np.asarray(target) if target is not None else np.empty(0)
    usable = y.shape == (count,) and y.dtype.kind in "iu" and y.min(initial=0) >= 0 and y.max(initial=0) < 2**31
    return y.astype(np.int64) if usable else None
