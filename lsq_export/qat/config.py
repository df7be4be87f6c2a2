"""How to quantize a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from calib.errors import QuantizationError

from .layer_settings import (
    ACTIVATION_GRIDS,
    CHOICES,
    GRANULARITIES,
    OFFSETS,
    SETTINGS,
    ActivationGrid,
    Granularity,
    LayerSettings,
    LayerWish,
    Offset,
    check_bits,
    check_choice,
    checked,
    settings_of,
)

__all__ = ["ACTIVATION_GRIDS", "EDGES", "GRANULARITIES", "OFFSETS", "QATConfig"]

Edges = Literal["auto", "calibrated", "trained"]
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
    layers                         {name of a layer, or a pattern such as "features.0*": what differs there}. A table of
                                   weight_bits, activation_bits, activation_grid, weight_granularity and offset (those
                                   of activations: of the layer's input); a number: the bits of both; "float": the layer
                                   is not quantized at all.
                                   Where several patterns match, later ones win. A wish wins over first_last_bits.

    These defaults are the standard recipe, that of the command line and the demo as well: they stand here alone, and
    docs/benchmarks/accuracy.md has what they were chosen by.

    Errors (QuantizationError): an option with another value.
    """

    weight_bits: int = 4
    activation_bits: int = 4
    activation_grid: ActivationGrid = "unsigned-asymmetric"
    weight_granularity: Granularity = "tensor"
    first_last_bits: int | None = 8
    offset: Offset = "container"
    edges: Edges = "auto"
    layers: Mapping[str, LayerWish] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for option in ("weight_bits", "activation_bits", "first_last_bits"):
            check_bits(option, getattr(self, option), or_none=option == "first_last_bits")
        for option, allowed in {**CHOICES, "edges": EDGES}.items():
            check_choice(option, getattr(self, option), allowed)
        object.__setattr__(self, "layers", checked(self.layers))

    def settings(self, layer: str, *, outer: bool = False) -> LayerSettings | None:
        """How the layer of that name is quantized; None where it stays float. outer: it is the first or the last."""
        common = {name: getattr(self, name) for name in SETTINGS}
        if outer and self.first_last_bits is not None:
            common |= dict.fromkeys(("weight_bits", "activation_bits"), self.first_last_bits)
        return settings_of(layer, LayerSettings(**common), self.layers)

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
