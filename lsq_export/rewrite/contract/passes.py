"""A pass as an object: what it needs, what it sees to, and what it keeps.

Each pass is one file of `normalizing/` or `folding/`. The head of the file says what it turns into what, and why that
is exact; `PASS` at its end says the rest. The folds (rewrite/fold.py) are tuples of passes, and the runner (run.py)
holds each pass to what it says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import wraps
from typing import Any

import onnx_ir as ir

from calib.statistics.observers import Observer

from .conditions import Condition
from .decisions import BiasCorrection, LayerDecision, TensorDecision


class Keeps(Enum):
    """What a pass leaves as it was, on the same inputs."""

    VALUES = "values, before anything is rounded"
    ROUNDED = "rounded values"
    CODES = "codes, but for what its decisions say"
    NOTHING = "nothing"


@dataclass(kw_only=True)
class State:
    """What passes hand on beside the graph.

    fold: a name of `lsq_export.rewrite.fold.FOLDS`. batches: calibration inputs [N, …], read once. statistics:
    {quantizer: what its input looked like}, of grids that need it. before_edges: the graph before edges got grids.
    correct_on: images on which biases are corrected; none: they stay. observer: collects the statistics of edges.
    tensors, layers, corrections: what was decided.
    """

    fold: str = "strided"
    batches: Iterable[Any] = ()
    statistics: Mapping[str, Observer] = field(default_factory=dict)
    before_edges: ir.Model | None = None
    correct_on: Sequence[Any] = ()
    observer: type[Observer] = Observer
    tensors: list[TensorDecision] = field(default_factory=list)
    layers: list[LayerDecision] = field(default_factory=list)
    corrections: tuple[BiasCorrection, ...] = ()


def _always(state: State) -> bool:
    return True


@dataclass(frozen=True)
class Pass:
    """One pass.

    run: changes the graph, and the state where it decides something. because: why it keeps nothing. requires, ensures:
    what holds for the graph before and after it. applies: whether it does anything for a state.
    """

    name: str
    run: Callable[[ir.Model, State], None]
    keeps: Keeps
    because: str = ""
    requires: tuple[Condition, ...] = ()
    ensures: tuple[Condition, ...] = ()
    applies: Callable[[State], bool] = _always

    def __post_init__(self) -> None:
        assert (self.keeps is Keeps.NOTHING) == bool(self.because), f"{self.name}: say why nothing is kept"

    @property
    def rule(self) -> str:
        """The head of its file: what it turns into what."""
        return str(sys.modules[self.run.__module__].__doc__)


def stateless(function: Callable[[ir.Model], None]) -> Callable[[ir.Model, State], None]:
    """The `run` of a pass that needs the graph alone."""

    @wraps(function)
    def run(model: ir.Model, state: State) -> None:
        function(model)

    return run
