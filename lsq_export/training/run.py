"""What a run keeps beside its checkpoint while it trains: the state to resume from, and the log.

run = Run(StateFile(path, identity), Log(log), every=0, resume=True)
fit(model, data, recipe, state=run.state("float"), keep=run.keep("float"), keep_every=run.every)
run.results["float_accuracy"] = 0.97                      # kept with the states that follow
run.finish()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from torch import nn

from .log import Histories, Log
from .recipe import Epoch
from .state import State, StateFile


class Run:
    """One run of a job through its phases.

    results: plain values that the rest of the run needs. histories: the completed epochs of each phase.
    """

    def __init__(self, file: StateFile, log: Log, *, every: int = 0, resume: bool = False, writes: bool = True) -> None:
        """every: steps between states within an epoch; 0: only between epochs.

        resume: go on where the file says. writes: False on all but one of several processes.

        Errors: those of `StateFile.read`, to resume.
        """
        self.file, self.log, self.every, self.writes = file, log, every, writes
        self.saved = file.read() if resume else None
        self.results: dict[str, Any] = {}
        self.histories: Histories = {}
        if self.saved is not None:
            self.results = dict(self.saved.results["results"])
            self.histories = {phase: _epochs(values) for phase, values in self.saved.results["histories"].items()}
            self.histories[self.saved.phase] = _epochs(self.saved.state.values["history"])

    def state(self, phase: str) -> State | None:
        """Where that phase was interrupted; None where it begins."""
        return self.saved.state if self.saved is not None and self.saved.phase == phase else None

    def keep(self, phase: str, teacher: nn.Module | None = None) -> Callable[[State], None]:
        """The function that `fit` calls with its states.

        teacher: a model that the phase needs to the end, kept with them.
        """
        before = {name: [asdict(epoch) for epoch in epochs] for name, epochs in self.histories.items() if name != phase}
        more = {} if teacher is None else {f"teacher.{name}": tensor for name, tensor in teacher.state_dict().items()}

        def write(state: State) -> None:
            self.histories[phase] = _epochs(state.values["history"])
            if self.writes:
                whole = State(state.values, {**state.tensors, **more})
                self.file.write(phase, whole, {"results": self.results, "histories": before})
                self.log.update(self.histories)

        return write

    def finish(self) -> None:
        """End the run: it is complete, and nothing is left to resume."""
        if self.writes:
            if self.histories:
                self.log.update(self.histories)
            self.file.remove()


def _epochs(history: list[dict[str, Any]]) -> tuple[Epoch, ...]:
    return tuple(Epoch(**values) for values in history)
