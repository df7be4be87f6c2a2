"""What `verify` finds out, as data: the promises of the design (end of part 2), per format and per layer."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

TIES = 1e-5  # promise 2: fraction of a layer's codes that may differ from the folded model by ties of float rounding
NUDGE = 1e-4  # relative
NUDGED = f"trained, inputs × {1 + NUDGE:g}"  # name of that row in tables
QDQ_TIES = 1e-3  # a qdq file runs in float32, whose sums round: more ties, each one code
ISLAND_TIES = QDQ_TIES  # so does a float island of a qoperator file; only the codes that it makes itself


@dataclass(frozen=True)
class LayerParity:
    """One tensor of codes against the folded model, which computes in float64 from the same inputs.

    name: the tensor. elements: how many were compared. differing: fraction of codes that differ. largest: biggest
    difference, in codes. histogram: {difference in codes: elements}, without 0. reasons: {reason: elements that differ
    for it}, see `reasons.py`. outside: elements whose codes are none of the learned grid's."""

    name: str
    elements: int
    differing: float
    largest: int
    histogram: dict[int, int]
    reasons: dict[str, int] = field(default_factory=dict)
    outside: int = 0

    def within(self, ties: float) -> bool:
        """At most that fraction (or one element) differs, and by one code at the most."""
        return self.largest <= 1 and sum(self.histogram.values()) <= max(1.0, ties * self.elements)


@dataclass(frozen=True)
class IslandParity:
    """The codes that float operators make, in ONNX Runtime against float64 on the same inputs; over all sessions.

    codes: the tensor. operators: "name (operator)" of those that it is made by. differing: elements that differ.
    largest: by how many codes."""

    codes: str
    operators: tuple[str, ...]
    elements: int
    differing: int
    largest: int

    @property
    def ok(self) -> bool:
        return self.largest <= 1 and self.differing <= max(1.0, ISLAND_TIES * self.elements)


def first_differing(layers: tuple[LayerParity, ...]) -> LayerParity | None:
    """Of layers in the order of the graph."""
    return next((layer for layer in layers if layer.histogram), None)


@dataclass(frozen=True)
class FormatParity:
    """One exported file in ONNX Runtime.

    top1_agreement: fraction of images with the trained model's class. sqnr_db: of the outputs against the trained
    model's (infinite if equal). reference_mismatch: elements in which ONNX Runtime and the integer reference differ; of
    every tensor, with graph optimization on and off, for qoperator; of the outputs for qdq, where other runtimes may
    round otherwise. first_mismatch: the first tensor with a mismatch. altered: constants and nodes in which the file is
    not what the fold prescribes. accumulator_mismatch: accumulators of Conv and Gemm that differ from the folded
    model's, exactly computed, on the same inputs. output_mismatch: outputs (floats) that differ from the folded model's
    on the same inputs by more than float32 rounding. first_differing: the first of `layers` with a code that differs.
    islands: of a qoperator file; what they compute is compared with float64, and everything else with the integer
    reference on the codes that they gave."""

    name: str
    top1_agreement: float
    sqnr_db: float
    accuracy: float | None
    reference_mismatch: int
    first_mismatch: str | None
    accumulator_mismatch: int
    output_mismatch: int
    altered: tuple[str, ...]
    layers: tuple[LayerParity, ...]
    islands: tuple[IslandParity, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.failures

    @property
    def first_differing(self) -> LayerParity | None:
        return first_differing(self.layers)

    @property
    def failures(self) -> list[str]:
        """Promises that this file breaks, one line each."""
        found = [f"{self.name}: {line}" for line in self.altered[:3]]
        exact = self.name == "qoperator"
        if exact and self.reference_mismatch:
            found.append(
                f"{self.name}: {self.reference_mismatch} elements differ from the integer reference, first in "
                f"{self.first_mismatch}"
            )
        if self.accumulator_mismatch:
            found.append(f"{self.name}: {self.accumulator_mismatch} accumulators differ from the folded model's")
        if self.output_mismatch:
            found.append(
                f"{self.name}: {self.output_mismatch} outputs differ from the folded model's by more than float32 "
                "rounding"
            )
        found += [
            f"{self.name}: the island {' and '.join(island.operators)} gives other codes than float64 does: "
            f"{island.differing} of {island.elements}, "
            f"by up to {island.largest}"
            for island in self.islands
            if not island.ok
        ]
        ties = dict.fromkeys((island.codes for island in self.islands), ISLAND_TIES)
        bad = [layer for layer in self.layers if not layer.within(ties.get(layer.name, TIES) if exact else QDQ_TIES)]
        if bad:
            worst = bad[0]
            found.append(
                f"{self.name}: {len(bad)} tensors differ from the folded model by more than ties, first {worst.name}: "
                f"{worst.differing:.3%} of {worst.elements} codes, by up to {worst.largest}"
            )
        return found


@dataclass(frozen=True)
class Parity:
    """All of it. folded_*: the folded model (float64) against the trained one: the price of the fold, promise 3.

    capture_error: median over the images of |captured - trained| / max |trained|; None where no PyTorch model was
    given. captured_layers: where that is above CAPTURE_TOLERANCE, the captured graph against the PyTorch model layer by
    layer on the same inputs (`capture_check.py`). damaged: files that are not what SHA256SUMS says. golden: formats
    whose golden outputs are not the integer reference's. Accuracies are None where the batches had no targets.
    nudged_*: the trained model against itself on inputs larger by NUDGE, for scale: a low-bit network amplifies what
    changes, and a fold that is as near as that could not be nearer in effect. trained_layers: codes of the learned
    quantizers, folded against trained on the same inputs (`trained_layers.py`)."""

    formats: dict[str, FormatParity]
    images: int
    trained_accuracy: float | None
    folded_accuracy: float | None
    folded_top1_agreement: float
    folded_sqnr_db: float
    capture_error: float | None
    nudged_top1_agreement: float
    nudged_sqnr_db: float
    captured_layers: tuple[LayerParity, ...] = field(default=())
    damaged: tuple[str, ...] = field(default=())
    golden: tuple[str, ...] = field(default=())
    trained_layers: tuple[LayerParity, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """All promises hold."""
        return not self.failures

    @property
    def failures(self) -> list[str]:
        """Broken promises, one line each."""
        found = [f"{name}: the file is not the one that was exported (SHA256SUMS)" for name in self.damaged]
        found += [
            f"{name}: the golden vectors (test_data_set_0) are not what the integer reference computes"
            for name in self.golden
        ]
        if self.capture_error is not None and not self.capture_error <= CAPTURE_TOLERANCE:
            wrong = next((layer for layer in self.captured_layers if not layer.within(QDQ_TIES)), None)
            if wrong or not self.captured_layers:
                where = (
                    f"; {wrong.name} differs first, in {wrong.differing:.2%} of its elements on the same inputs"
                    if wrong
                    else ""
                )
                error = f"its outputs differ by {self.capture_error:.2e} of their range on the median image"
                found.append(f"the captured graph is not the trained model: {error}{where}")
        if not self.folded_sqnr_db > 0:
            found.append(
                "the folded model is not the trained one: its outputs' error is as large as they are (SQNR "
                f"{self.folded_sqnr_db:.1f} dB)"
            )
        found += [
            f"{layer.name}: {layer.outside} of {layer.elements} codes are none of its grid's"
            for layer in self.trained_layers
            if layer.outside
        ]
        return found + [line for parity in self.formats.values() for line in parity.failures]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for parity.json; an infinite SQNR (no noise at all) is null there."""
        plain = asdict(self)
        for name, parity in self.formats.items():
            first = parity.first_differing
            plain["formats"][name] |= {"ok": parity.ok, "first_differing": first.name if first else None}
        for layer in [
            *plain["trained_layers"],
            *plain["captured_layers"],
            *(layer for parity in plain["formats"].values() for layer in parity["layers"]),
        ]:
            layer["histogram"] = {str(k): v for k, v in sorted(layer["histogram"].items())}
        return {"ok": self.ok, "failures": self.failures, **finite(plain)}


CAPTURE_TOLERANCE = (
    1e-3  # a flipped tie inside a low-bit network moves an output; the median over images is blind to single flips
)


def finite(value: Any) -> Any:
    """Plain values for JSON: None for what is not a number, or infinite."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
