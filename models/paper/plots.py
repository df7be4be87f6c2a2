"""The plots of RESULTS.md as SVG; the same record gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from calib.errors import QuantizationError

from .plan import BITS, INIT_NAMES, INITS, TABLE_2, rows
from .record import Result
from .tables import networks_of, table_1, table_2

STYLE: Any = {
    "svg.hashsalt": "paper",
    "svg.fonttype": "none",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
MARKER: Any = {"marker": "o", "markersize": 3, "linewidth": 1, "capsize": 2}


def draw(results: Sequence[Result]) -> dict[str, bytes]:
    """{file name: SVG} of two plots.

    Accuracy over width for each configuration, and the accuracy of each run for each initialization.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise QuantizationError("plots need matplotlib: pip install matplotlib") from error
    measured = {r.network for r in results}
    networks = [name for name in networks_of(results) if name in measured]
    with rc_context(STYLE):
        figures = [Figure(figsize=(3.2 * max(1, len(networks)), 2.8), layout="constrained") for _ in range(2)]
        for figure, panel in zip(figures, (_configurations, _initializations), strict=True):
            axes = figure.subplots(1, max(1, len(networks)), squeeze=False)[0]
            for network, axis in zip(networks, axes, strict=False):
                panel(axis, results, network)
            axes[0].set_ylabel("top-1 accuracy, %")
        return dict(zip(("configurations.svg", "initializations.svg"), map(_svg, figures), strict=True))


def _configurations(axis: Any, results: Sequence[Result], network: str) -> None:
    """Draw the mean over seeds with the standard deviation as a bar, and the float accuracy as a line.

    The configurations lie a little beside each other.
    """
    for i, (configuration, entries) in enumerate(zip(rows(network), table_1(results, network), strict=True)):
        points = [(entry.bits + 0.06 * (i - 2), entry.trained) for entry in entries if entry.trained is not None]
        if points:
            x, estimates = zip(*points, strict=True)
            means, errors = [100 * e.mean for e in estimates], [100 * (e.std or 0.0) for e in estimates]
            axis.errorbar(x, means, errors, **MARKER, label=configuration.name)
    for value in sorted({r.float_accuracy for r in results if r.network == network}):
        axis.axhline(100 * value, color="0.6", linestyle="--", linewidth=0.8)
    axis.set_xticks(BITS, [f"W{bits}A{bits}" for bits in BITS])
    axis.set_title(network)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(title="configuration", frameon=False)


def _initializations(axis: Any, results: Sequence[Result], network: str) -> None:
    """Draw one point for each run."""
    for i, entry in enumerate(table_2(results, network)):
        values = () if entry.trained is None else entry.trained.values
        x = [i + 0.04 * (k - (len(values) - 1) / 2) for k in range(len(values))]
        axis.plot(x, [100 * v for v in values], "o", markersize=4, alpha=0.7)
    axis.set_xticks(range(len(INITS)), [INIT_NAMES[init] for init in INITS])
    axis.set_xlim(-0.5, len(INITS) - 0.5)
    axis.set_title(f"{network}, W{TABLE_2[1]}A{TABLE_2[1]}")


def _svg(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()
