"""How to quantize a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from calib.errors import QuantizationError

ActivationGrid = Literal["unsigned-symmetric", "signed-symmetric", "signed-asymmetric", "unsigned-asymmetric"]
Granularity = Literal["tensor", "channel"]
Offset = Literal["real", "integer", "container"]
Edges = Literal["auto", "calibrated", "trained"]
ACTIVATION_GRIDS: tuple[ActivationGrid, ...] = get_args(ActivationGrid)  # the LSQ+ configurations 1-4, in this order
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
OFFSETS: tuple[Offset, ...] = get_args(Offset)
EDGES: tuple[Edges, ...] = get_args(Edges)


@dataclass(frozen=True)
class QATConfig:
    """How to quantize a model.

    weight_bits, activation_bits   2 … 8
    activation_grid                one of the LSQ+ configurations 1-4, see `ACTIVATION_GRIDS`
    weight_granularity             "tensor", or "channel": one scale per output channel
    first_last_bits                bits of input and weight of the first and of the last layer; None: like the rest.
                                   First and last in the order in which the model registers its layers (the order of
                                   execution is not known without an input).
    offset                         "real"; "integer": the offset is trained on multiples of the scale; "container": on
                                   multiples of s/k, the steps of spreading (E5), which 8-bit containers hold exactly,
                                   borders of padded layers included
    edges                          "calibrated": sums, and whatever else has no quantizer, get an 8-bit grid at export;
                                   "trained": training has 8-bit quantizers there already, so that it sees their
                                   rounding (needs a model that torch.fx can trace); "auto": trained where the model
                                   can be traced, else calibrated, with a QuantizationWarning that says why

    These defaults are those of the command line as well: they stand here alone.

    Errors (QuantizationError): an option with another value.
    """

    weight_bits: int = 4
    activation_bits: int = 4
    activation_grid: ActivationGrid = "unsigned-asymmetric"
    weight_granularity: Granularity = "tensor"
    first_last_bits: int | None = 8
    offset: Offset = "real"
    edges: Edges = "calibrated"

    def __post_init__(self) -> None:
        for option in ("weight_bits", "activation_bits", "first_last_bits"):
            bits = getattr(self, option)
            if option == "first_last_bits" and bits is None:
                continue
            if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 8:
                raise QuantizationError(
                    f"{option}={bits!r}: use 2 to 8{', or None' if option == 'first_last_bits' else ''}"
                )
        choices = {
            "activation_grid": ACTIVATION_GRIDS,
            "weight_granularity": GRANULARITIES,
            "offset": OFFSETS,
            "edges": EDGES,
        }
        for option, allowed in choices.items():
            if getattr(self, option) not in allowed:
                raise QuantizationError(f"{option}={getattr(self, option)!r}: use one of {', '.join(allowed)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> QATConfig:
        """The inverse of to_dict. An unknown option is an error, a missing one has its default."""
        known = [field.name for field in fields(cls)]
        for option in values:
            if option not in known:
                raise QuantizationError(f"unknown option {option!r} in a QAT config: use {', '.join(known)}")
        return cls(**values)
