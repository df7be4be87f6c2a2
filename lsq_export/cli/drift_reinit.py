"""--reinit of `lsq-export drift`: new grids for the quantizers that left their range, in a checkpoint of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .data_options import load_data
from .output import console

if TYPE_CHECKING:
    import torch
    from torch import nn

    from calib.drift import Drift, Thresholds
    from calib.drift.range_use import RangeUse
    from calib.initialization.first_grids import Method
    from lsq_export.training.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which images of a data set to take, in which size and in batches of how many.

    spec: the data, given by `option`. shape: (C, H, W). split: train, test or all. limit: at most this many batches.
    like: the preprocessing of the checkpoint.
    """

    spec: str
    option: str
    shape: tuple[int, ...]
    split: str
    batch_size: int
    limit: int | None = None
    like: Mapping[str, Any] | None = None


class Images:
    """The batches of a selection, as often as they are needed. count: the number of images."""

    def __init__(self, selection: Selection) -> None:
        data = load_data(selection.spec, selection.shape, option=selection.option, like=selection.like)
        names = ("train", "test") if selection.split == "all" else (selection.split,)
        parts = [data.batches(name, selection.batch_size, shuffle=0) for name in names]
        # The splits share out the limit, in order.
        self.parts, rest = [], math.inf if selection.limit is None else selection.limit
        for part in parts:
            if rest > 0:
                self.parts.append(replace(part, limit=int(min(len(part), rest))))
                rest -= len(part)
        self.count = sum(min(len(part.split), len(part) * selection.batch_size) for part in self.parts)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for part in self.parts:
            yield from part

    def measure(self, model: nn.Module, title: str) -> dict[str, RangeUse]:
        """`calib.drift.measure` with a progress bar."""
        from calib.drift import measure
        from lsq_export.progress import bar

        with bar(console(stderr=True), title, sum(len(part) for part in self.parts)) as advance:
            return measure(model, self, advance)


@dataclass(frozen=True, kw_only=True)
class Renewal:
    """How new grids are found, for at most how many rounds, and the checkpoint that they are written to."""

    method: Method
    rounds: int
    limits: Thresholds
    out: Path


@dataclass(frozen=True, kw_only=True)
class Renewed:
    """What --reinit did.

    names: the quantizers with new grids, in the order of the model. after: the comparison on the new grids. The top-1
    accuracies (0-1) are on these images: before, after, and in float (no activation and no weight quantized), which no
    grid can improve.
    """

    names: tuple[str, ...]
    rounds: int
    after: tuple[Drift, ...]
    accuracy_before: float
    accuracy_after: float
    accuracy_float: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        accuracy = {"before": self.accuracy_before, "after": self.accuracy_after, "float": self.accuracy_float}
        quantizers = [drift.to_dict() for drift in self.after]
        return {"names": list(self.names), "rounds": self.rounds, "accuracy": accuracy, "quantizers": quantizers}


def reinitialize(
    model: nn.Module,
    checkpoint: Checkpoint,
    data: Images,
    before: Mapping[str, RangeUse],
    now: tuple[Drift, ...],
    how: Renewal,
) -> Renewed:
    """Find new grids until every quantizer keeps its range, and write a checkpoint with them.

    checkpoint: what `model` was restored from. before: what calibration saw. now: the comparison with it. What the new
    grids see on these data becomes their calibration.
    """
    from calib import drift
    from calib.quantized import bypassed
    from lsq_export.training.checkpoint import save
    from lsq_export.training.fit import evaluate

    accuracy_before = evaluate(model, data)
    with bypassed(model):
        accuracy_float = evaluate(model, data)
    record, renewed, done = dict(before), set[str](), 0
    while done < how.rounds and (names := [quantizer.name for quantizer in now if quantizer.reasons]):
        done += 1
        renewed.update(names)
        drift.reinitialize(model, data, names, how.method)
        uses = data.measure(model, f"round {done}: {len(names)} re-initialized")
        record |= {name: uses[name] for name in names}
        now = drift.compare(record, uses, how.limits)
    float_only = {**(checkpoint.extra.get("accuracy") or {}), "trained_accuracy": None}  # it had other grids
    # What the grids of earlier rounds see now, after the grids of later rounds.
    record |= {
        quantizer.name: quantizer.now for quantizer in now if quantizer.name in renewed and not quantizer.reasons
    }
    save(
        how.out,
        model,
        model_spec=checkpoint.model_spec,
        config=checkpoint.config,
        input_shape=checkpoint.input_shape,
        preprocessing=checkpoint.preprocessing,
        extra={**checkpoint.extra, "accuracy": float_only, drift.RECORD: drift.to_record(record)},
    )
    after = drift.compare(record, uses, how.limits)
    return Renewed(
        names=tuple(quantizer.name for quantizer in after if quantizer.name in renewed),
        rounds=done,
        after=after,
        accuracy_before=accuracy_before,
        accuracy_after=evaluate(model, data),
        accuracy_float=accuracy_float,
    )
