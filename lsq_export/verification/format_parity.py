"""What `verify` finds out about one exported file, as data: promises 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from calib.tables import Table, Tabular, decibel, percent
from calib.words import counted

from .layer_parity import ISLAND_TIES, QDQ_TIES, TIES, IslandParity, LayerParity, Layers, first_differing
from .promises import Broken, Counts, Name

EXACT = "qoperator"  # the format that the integer reference runs
EXACT_FORMATS = (EXACT, "lookup")  # the formats that are held to it, bit for bit
ALTERED_LINES = 3  # of all that is altered in a file
DIFFERS = ("element differs", "elements differ")


@dataclass(frozen=True, kw_only=True, repr=False)
class FormatParity(Tabular):
    """One exported file in ONNX Runtime.

    top1_agreement: share of the images (of places, where each has classes) with the trained model's class; None where
    outputs have no classes. sqnr_db: of the worst output against the trained model's (infinite if equal).
    outputs_sqnr_db: {output: the same}, where there are several of floats.
    reference_mismatch: elements in which ONNX Runtime and the integer reference differ; of every tensor, with graph
    optimization on and off, for qoperator and lookup (with and without our library, where that is built); of the
    outputs for qdq, where other runtimes may round otherwise. reference_elements: how many were compared.
    first_mismatch: the first tensor with a mismatch. reference_largest, reference_range: of the outputs, the largest
    difference from the reference, and the reference's largest value.
    altered: constants and nodes in which the file is not what the fold prescribes. accumulator_mismatch: accumulators
    of Conv and Gemm that differ from the folded model's, exactly computed, on the same inputs. output_mismatch: outputs
    (floats) that differ from the folded model's on the same inputs by more than float32 rounding. islands: of a
    qoperator file; what they compute is compared with float64, and everything else with the integer reference on the
    codes that they gave.
    """

    name: str
    top1_agreement: float | None
    sqnr_db: float
    accuracy: float | None
    reference_mismatch: int
    first_mismatch: str | None
    accumulator_mismatch: int
    output_mismatch: int
    altered: tuple[str, ...]
    layers: tuple[LayerParity, ...]
    islands: tuple[IslandParity, ...] = ()
    reference_elements: int = 0
    reference_largest: float = 0.0
    reference_range: float = 0.0
    outputs_sqnr_db: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", Layers(self.layers))

    @property
    def table(self) -> Table:
        """What is shown: the tensors that differ from the folded model, below what was found about the file."""
        accuracy = "" if self.accuracy is None else f", accuracy {percent(self.accuracy)}"
        title = (
            f"{self.name} against the fake-quant model: top-1 agreement {percent(self.top1_agreement)}, SQNR "
            f"{decibel(self.sqnr_db)}{accuracy}"
        )
        layers = Layers(self.layers).table
        exact = f"{counted(self.reference_mismatch, *DIFFERS)} from the integer reference"
        notes = [f"{layers.title} from the folded model; {exact}", *self.failures]
        return Table(title, layers.columns, layers.rows, notes)

    @property
    def ok(self) -> bool:
        """Whether this file keeps all promises."""
        return not self.failures

    @property
    def first_differing(self) -> LayerParity | None:
        """The first of `layers` with a code that differs."""
        return first_differing(self.layers)

    @property
    def failures(self) -> list[str]:
        """Promises that this file breaks, one line each."""
        return [broken.line for broken in self.broken]

    @property
    def broken(self) -> tuple[Broken, ...]:
        """The same, each with the name of the promise."""
        found = (
            *((Name.EXACT_REWRITE, line) for line in self.altered[:ALTERED_LINES]),
            *((Name.EXACT_RUN, line) for line in self._wrong_run()),
            *((Name.EXACT_REWRITE, line) for line in self._wrong_numbers()),
            *((Name.EXACT_RUN, line) for line in self._wrong_islands()),
            *((Name.EXACT_REWRITE, line) for line in self._wrong_codes()),
        )
        return tuple(Broken(promise, f"{self.name}: {line}") for promise, line in found)

    @property
    def counts(self) -> Counts:
        """For what is said about the promises."""
        return Counts(
            name=self.name,
            exact=self.name in EXACT_FORMATS,
            mismatches=self.reference_mismatch,
            elements=self.reference_elements,
            codes_differing=sum(sum(layer.histogram.values()) for layer in self.layers),
            codes=sum(layer.elements for layer in self.layers),
            islands=len({operator for island in self.islands for operator in island.operators}),
            largest=self.reference_largest,
            range=self.reference_range,
        )

    def _wrong_run(self) -> Iterator[str]:
        if self.name in EXACT_FORMATS and self.reference_mismatch:
            mismatches = counted(self.reference_mismatch, *DIFFERS)
            yield f"{mismatches} from the integer reference, first in {self.first_mismatch}"

    def _wrong_numbers(self) -> Iterator[str]:
        if self.accumulator_mismatch:
            accumulators = counted(self.accumulator_mismatch, "accumulator differs", "accumulators differ")
            yield f"{accumulators} from the folded model's"
        if self.output_mismatch:
            outputs = counted(self.output_mismatch, "output differs", "outputs differ")
            yield f"{outputs} from the folded model's by more than float32 rounding"

    def _wrong_islands(self) -> Iterator[str]:
        for island in self.islands:
            if not island.ok:
                yield (
                    f"the island {' and '.join(island.operators)} gives other codes than float64 does: "
                    f"{island.differing} of {island.elements}, by up to {island.largest}"
                )

    def _wrong_codes(self) -> Iterator[str]:
        wrong = [layer for layer in self.layers if not layer.within(self._ties(layer.name))]
        if wrong:
            tensors = counted(len(wrong), "tensor differs", "tensors differ")
            yield (
                f"{tensors} from the folded model by more than ties, first {wrong[0].name}: "
                f"{wrong[0].differing:.3%} of {wrong[0].elements} codes, by up to {wrong[0].largest}"
            )

    def _ties(self, tensor: str) -> float:
        """The share of this tensor's codes that may differ."""
        if self.name not in EXACT_FORMATS:
            return QDQ_TIES
        return ISLAND_TIES if any(island.codes == tensor for island in self.islands) else TIES
