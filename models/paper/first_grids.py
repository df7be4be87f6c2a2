"""What the first grids do to a float model's activations, before any training.

That is: the size of the steps, the squared error, and the channels that are lost. A grid belongs to a whole tensor: the
least squared error is mostly that of the channels with large values, and a channel with small ones may end up on one
code, where the next layer sees nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from calib.drift.range_use import RangeCounter
from calib.grid import quantize
from calib.initialization.first_grids import look_on
from calib.quantized import Quantized

from .grids_file import FirstGrids, GridsFile
from .plan import Run, Settings, starts
from .runs import commit, first_model, versions

SEED = 0  # that of the runs whose calibration batches are taken


class LayerUse:
    """Adds up what the grid of one quantizer does to its inputs [N, C, H, W]."""

    def __init__(self, quantizer: Quantized) -> None:
        self.quantizer = quantizer
        self._counter = RangeCounter(quantizer)
        self._codes: torch.Tensor | None = None  # [2, C]: -smallest and largest of each channel
        self._values: torch.Tensor | None = None

    def update(self, x: torch.Tensor) -> None:
        """Add a batch [N, C, H, W]."""
        self._counter.update(x)
        q = self.quantizer
        codes = quantize(x, q.scale, q.effective_offset, q.qmin, q.qmax)
        self._codes, self._values = _wider(self._codes, codes), _wider(self._values, x)

    @property
    def constant(self) -> float:
        """Share of the channels that vary and have one code only, 0-1."""
        assert self._codes is not None and self._values is not None
        vary = self._values.sum(0) > 0  # largest - smallest, [C]
        return float((vary & (self._codes.sum(0) == 0)).double().mean())

    @property
    def step_and_error(self) -> tuple[float, float] | None:
        """s/σ and squared error / σ² of the tensor; None where nothing varies."""
        use = self._counter.result()
        return None if use.relative_error is None else (use.scale / use.std, use.relative_error)


def measure_all(
    networks: Iterable[str],
    bits: int,
    settings: Mapping[str, Settings],
    directory: Path,
    show: Callable[[str], None] = lambda text: None,
) -> GridsFile:
    """Measure each network at W`bits`A`bits` from each of its starts, on the float model in `directory`.

    show: called after each with what was done.
    """
    rows, used = [], {}
    for network in networks:
        used[network] = settings[network]
        for configuration, init in starts(network):
            run = Run(network, bits, configuration, init, SEED)
            rows.append(measure(run, settings[network], directory))
            show(str(run))
    return GridsFile(tuple(rows), used, commit(), versions())


def measure(run: Run, settings: Settings, directory: Path) -> FirstGrids:
    """The first grids of a run, on the calibration batches that they were made from, as they are in the float model."""
    model, calibration = first_model(run, settings, directory)
    uses = look(model, calibration)
    layers = [(*numbers, use.constant) for use in uses.values() if (numbers := use.step_and_error) is not None]
    step, error, constant = (fmean(column) for column in zip(*layers, strict=True))
    return FirstGrids(
        network=run.network,
        bits=run.bits,
        configuration=run.configuration,
        init=run.init,
        layers=len(layers),
        step=step,
        error=error,
        constant=constant,
    )


def look(model: nn.Module, batches: Iterable[Any]) -> dict[str, LayerUse]:
    """{name: use} of the activation quantizers with inputs of four dimensions.

    The model runs in float, so each sees what no other has changed.
    """
    uses: dict[str, LayerUse] = {}
    look_on(model, batches, partial(_look, uses))
    return uses


def _look(uses: dict[str, LayerUse], quantizer: nn.Module, args: tuple[Any, ...]) -> None:
    assert isinstance(quantizer, Quantized)
    if quantizer.kind == "activation" and args[0].dim() == 4:
        uses.setdefault(quantizer.name, LayerUse(quantizer)).update(args[0])


def _wider(before: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
    """(-smallest, largest) of each channel of x [N, C, H, W] and of `before` [2, C], together."""
    now = torch.stack([-x.amin((0, 2, 3)), x.amax((0, 2, 3))])  # [2, C]
    return now if before is None else torch.maximum(before, now)
