"""Sessions of ONNX Runtime for what `bench` times, and what they are fed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort

from calib.errors import QuantizationError
from lsq_export.bundle.layout import LOOKUP
from lsq_export.kernels import is_built, register
from lsq_export.verification.runtime import refusal

Source = str | os.PathLike[str] | bytes
STOCK = f"{LOOKUP}, stock"  # a file with tables in ONNX Runtime alone; LOOKUP: with our operators


def random_inputs(name: str, session: ort.InferenceSession, batch: int, seed: int) -> dict[str, np.ndarray]:
    """Inputs in the model's shapes, with `batch` for a dynamic first dimension.

    Float inputs get normal numbers; 8-bit ones get all codes with the same probability. Errors (QuantizationError):
    another fixed batch size, another dynamic dimension, another type of input.
    """
    rng = np.random.default_rng(seed)
    feed = {}
    for node in session.get_inputs():
        if node.shape and node.shape[0] != batch and isinstance(node.shape[0], int):
            raise QuantizationError(
                f"model {name}: its batch size is fixed at {node.shape[0]}, not {batch}: use --batch {node.shape[0]}"
            )
        shape = [batch, *node.shape[1:]] if node.shape else []
        unknown = [str(size) for size in shape if not isinstance(size, int)]
        if unknown:
            raise QuantizationError(
                f"model {name}: input {node.name!r} has the unknown size {unknown[0]!r}: only the batch size may be "
                "dynamic"
            )
        if node.type in ("tensor(float)", "tensor(float16)", "tensor(double)"):
            kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}[node.type]
            feed[node.name] = rng.standard_normal(shape).astype(kind)
        elif node.type in ("tensor(uint8)", "tensor(int8)"):
            code_type = np.dtype(node.type[7:-1])
            limits = np.iinfo(code_type)
            feed[node.name] = rng.integers(limits.min, limits.max, shape, dtype=code_type, endpoint=True)
        else:
            raise QuantizationError(
                f"model {name}: input {node.name!r} is a {node.type}, which cannot be made up: only float and 8-bit "
                "inputs can"
            )
    return feed


def open_session(name: str, source: Source, threads: int, profile: str | None = None) -> ort.InferenceSession:
    """A session with `threads` threads and everything else by default; with our operators if its name ends in LOOKUP.

    profile: prefix of the file that ONNX Runtime's profiler writes.
    Errors (QuantizationError): no such file, a model that cannot be loaded.
    """
    options = ort.SessionOptions()
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what fails is raised
    if name.endswith(LOOKUP) and is_built():
        register(options)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise QuantizationError(f"model {name}: {os.fspath(source)} does not exist: give an ONNX file")
    try:
        return ort.InferenceSession(
            source if isinstance(source, bytes) else os.fspath(source), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise QuantizationError(f"model {name}: {refusal(error, 'load')}") from error
