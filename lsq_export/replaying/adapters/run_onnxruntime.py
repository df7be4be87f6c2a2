"""ONNX Runtime's CPU provider, as its default session runs a file."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before it is imported

import onnxruntime

Arrays = dict[str, np.ndarray]


def version() -> str:
    """Of the package."""
    return str(onnxruntime.__version__)


def opened(path: str, feeds: Arrays, names: list[str]) -> Callable[[Arrays], Arrays]:
    """A session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    if os.environ.get("REPLAY_OPTIMIZATION") == "disabled":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda batch: dict(zip(names, session.run(names, batch), strict=True))
