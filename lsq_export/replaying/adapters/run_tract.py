"""tract, by its Python package."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version as version_of

import numpy as np
import tract

Arrays = dict[str, np.ndarray]


def version() -> str:
    """Of the package."""
    return version_of("tract")


def opened(path: str, feeds: Arrays, names: list[str]) -> Callable[[Arrays], Arrays]:
    """A model, optimized; it names outputs after nodes."""
    model = tract.onnx().load(path)
    inputs = [model.input_name(index) for index in range(model.input_count())]
    runnable = model.into_model().into_runnable()

    def run(batch: Arrays) -> Arrays:
        found = runnable.run([batch[name] for name in inputs])
        return {name: value.to_numpy() for name, value in zip(names, found, strict=True)}

    return run
