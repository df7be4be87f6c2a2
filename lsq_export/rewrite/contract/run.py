"""The runner: passes in order, each held to what it says of itself."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from calib.errors import QuantizationError
from calib.samples import Input

from .passes import Pass, State
from .watch import Watch


class Runner:
    """Runs passes on a model. probe: one image [1, …] on which each pass is watched; None: nothing is watched."""

    def __init__(self, probe: Input | None) -> None:
        self._watch = Watch(probe)

    def run(self, passes: Iterable[Pass], model: ir.Model, state: State) -> None:
        """Errors (QuantizationError): those of the passes; a pass that broke what it says it keeps or sees to."""
        for step in passes:
            if not step.applies(state):
                continue
            for condition in step.requires:
                condition.check(model.graph, f"before the pass {step.name}")
            self._watch.before(model, state, step.keeps)
            step.run(model, state)
            try:
                self._watch.after(model, state)
            except QuantizationError as error:
                if (name := self._watch.not_finite) is not None:
                    raise QuantizationError(
                        f"{name}: the network makes NaN or infinity there of the first calibration image: check its "
                        "functions (log, sqrt, a division) and the sizes of its weights"
                    ) from error
                kept = f"which keeps {step.keeps.value}"
                raise QuantizationError(
                    f"{error} after the pass {step.name}, {kept}; please report this model"
                ) from error
            for condition in step.ensures:
                condition.check(model.graph, f"after the pass {step.name}")
