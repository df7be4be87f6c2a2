"""onnx.reference.ReferenceEvaluator: the definition of the operators, in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

Arrays = dict[str, np.ndarray]


def version() -> str:
    """Of the package."""
    return str(onnx.__version__)


def opened(path: str, feeds: Arrays, names: list[str]) -> Callable[[Arrays], Arrays]:
    """An evaluator."""
    evaluator = ReferenceEvaluator(path)
    return lambda batch: dict(zip(names, evaluator.run(names, batch), strict=True))
