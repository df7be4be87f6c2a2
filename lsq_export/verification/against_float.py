"""What quantization cost: the integers of a bundle beside the float network that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from calib.words import counted

from .answers import SAME, otherwise
from .numbers import by_output, decibel, percent
from .parity import finite

LABEL = "against float"
LITTLE = 20.0  # dB: an error that is not further below the outputs makes other numbers of them
LESS_LOSS = "more bits, calibrate --method reconstruction or --keep LAYER=8 lose less"


@dataclass(frozen=True, kw_only=True)
class AgainstFloat:
    """images: compared, of the test split of data. same_class: share of all that have a class; None: no classes.

    sqnr_db: of the worst output; None: no error at all. outputs: {output: its SQNR in dB}, where there are several of
    floats. of: the output that has the classes, then.
    """

    images: int
    same_class: float | None
    sqnr_db: float | None
    float_accuracy: float | None
    integer_accuracy: float | None
    outputs: Mapping[str, float | None] = field(default_factory=dict)
    of: str = ""
    data: str | None = None

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> AgainstFloat:
        """What `to_dict` made. Errors (TypeError): something else."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in plain.items() if name in known})

    @property
    def accuracies(self) -> str:
        """float 98.33% -> integer 98.05% (359 test images); "" where the data have no classes."""
        if self.float_accuracy is None:
            return ""
        both = f"float {percent(self.float_accuracy)} -> integer {percent(self.integer_accuracy)}"
        return f"{both} ({counted(self.images, 'test image')})"

    @property
    def loss(self) -> str:
        """What is said of it after the promises, which hold; "" where the answers are those of the float network."""
        if said := otherwise(self.same_class, "float"):
            return f"{said}: {LESS_LOSS}"
        if self.same_class is None and self.sqnr_db is not None and self.sqnr_db < LITTLE:
            return f"but the error is only {decibel(self.sqnr_db)} below the float network's outputs: {LESS_LOSS}"
        return ""

    @property
    def sentence(self) -> str:
        """same class 99.72% of 359 test images of digits, error 31.0 dB below the outputs; right: …"""
        right = (
            f"; right: float {percent(self.float_accuracy)}, integers {percent(self.integer_accuracy)}"
            if self.float_accuracy is not None
            else ""
        )
        where = f" (output {self.of})" if self.of else ""
        only = "ONLY " if self.same_class is not None and self.same_class < SAME else ""
        same = f"same class{where} {only}{percent(self.same_class)} of " if self.same_class is not None else ""
        images = counted(self.images, "test image") + (f" of {self.data}" if self.data else "")
        return f"{same}{images}, error {decibel(self.sqnr_db)} below the outputs{by_output(self.outputs)}{right}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return finite(asdict(self))  # type: ignore[no-any-return]


def is_against_float(plain: object) -> bool:
    """Whether this is what `AgainstFloat.to_dict` made."""
    if not isinstance(plain, Mapping):
        return False
    shares = ("same_class", "sqnr_db", "float_accuracy", "integer_accuracy")
    outputs = plain.get("outputs")
    return (
        isinstance(plain.get("images"), int)
        and all(name in plain and _is_number_or_none(plain[name]) for name in shares)
        and isinstance(outputs, Mapping)
        and all(map(_is_number_or_none, outputs.values()))
        and all(isinstance(plain.get(name) or "", str) for name in ("of", "data"))
    )


def _is_number_or_none(value: object) -> bool:
    return value is None or isinstance(value, (int, float))
