"""The curve of a training as an SVG or PNG file: loss and accuracy over the epochs of both phases.

It needs matplotlib, an extra.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from calib.errors import QuantizationError
from lsq_export.files.atomic import replacing

from .log import Histories

EXTRA = "pip install matplotlib"
SUFFIXES = (".svg", ".png")


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(histories: Histories, path: Path, title: str) -> None:
    """Draw the epochs of the phases one after the other. path: ends in .svg or .png.

    Errors (QuantizationError): no matplotlib; a file that cannot be written.
    """
    if not available():
        raise QuantizationError(f"curve {path} needs matplotlib: {EXTRA}")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    start = 0
    for (phase, epochs), color in zip(histories.items(), ("tab:blue", "tab:orange"), strict=False):
        x = [start + epoch.epoch for epoch in epochs]
        above.plot(x, [epoch.loss for epoch in epochs], ".-", color=color, label=f"{phase}, training")
        below.plot(x, [epoch.train_accuracy for epoch in epochs], ".--", color=color, label=f"{phase}, training")
        below.plot(x, [epoch.test_accuracy for epoch in epochs], ".-", color=color, label=f"{phase}, test")
        start += len(epochs)
    above.set_title(title, parse_math=False)  # a path may hold a $
    above.set(ylabel="loss", yscale="log")
    below.set(xlabel="epoch", ylabel="top-1 accuracy")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.legend()
    try:
        metadata = {"Date": None} if path.suffix == ".svg" else None
        with replacing(path) as temporary, rc_context({"svg.hashsalt": "curve"}):  # else ids are drawn by chance
            figure.savefig(temporary, format=path.suffix[1:], metadata=metadata)
    except OSError as error:
        raise QuantizationError(f"curve {path} cannot be written: {error.strerror}") from error
