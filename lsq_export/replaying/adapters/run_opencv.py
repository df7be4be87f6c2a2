"""OpenCV's dnn module, with the engine that it chooses."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Arrays = dict[str, np.ndarray]


def version() -> str:
    """Of the package."""
    return str(cv2.__version__)


def opened(path: str, feeds: Arrays, names: list[str]) -> Callable[[Arrays], Arrays]:
    """A network. OpenCV says what it cannot read in errors of its own."""
    cv2.setNumThreads(1)
    network = cv2.dnn.readNetFromONNX(path)

    def run(batch: Arrays) -> Arrays:
        for name, value in batch.items():
            network.setInput(value, name)
        return dict(zip(names, network.forward(names), strict=True))

    return run
