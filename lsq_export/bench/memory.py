"""Peak memory of a model: that of a process that only loads and runs it, minus that of one that does neither."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from calib.errors import QuantizationError

from .children import as_file, run_child
from .sessions import Source

RUNS = 3  # from the second run on, ONNX Runtime uses its memory pattern


def peak_memory(name: str, source: Source, feed: Mapping[str, np.ndarray], *, threads: int = 2) -> int:
    """Bytes that loading the file and running it on `feed` add to the peak of a process with numpy and ONNX Runtime.

    They hold the file as it is parsed, weights and their packed copies, inputs and activations. Errors
    (QuantizationError): the model cannot be loaded or run there.
    """
    with TemporaryDirectory(prefix="lsq-export-bench.") as directory, as_file(source) as path:
        inputs = Path(directory) / "inputs.npz"
        np.savez(inputs, allow_pickle=False, **dict(feed))
        request = {"model": str(path), "inputs": str(inputs), "threads": threads, "runs": RUNS}
        try:
            return max(0, int(run_child("peak_memory", request, Path(directory))["peak_bytes"]) - _empty())
        except QuantizationError as error:
            raise QuantizationError(f"model {name}: its memory cannot be measured: {error}") from error


@cache
def _empty() -> int:
    """Peak of a process that only imports numpy and ONNX Runtime, bytes."""
    with TemporaryDirectory(prefix="lsq-export-bench.") as directory:
        return int(run_child("peak_memory", {"model": None}, Path(directory))["peak_bytes"])
