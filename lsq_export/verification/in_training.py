"""Accuracies that the training measured, as they travel: checkpoint, manifest, parity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from calib.words import counted

KEY = "accuracy"  # in the extra of a checkpoint, and in the source of a manifest


@dataclass(frozen=True, kw_only=True)
class InTraining:
    """Accuracies on the test split of the data that the network was trained on, 0-1; None where not known.

    float_accuracy: of the float network. trained_accuracy: of the fake-quant network. data: by name. images: in the
    split.
    """

    float_accuracy: float | None
    trained_accuracy: float | None
    data: str | None
    images: int | None

    @property
    def place(self) -> str:
        """On what it was measured: 359 test images of digits."""
        images = counted(self.images, "test image") if self.images else ""
        return " of ".join(part for part in (images, self.data) if part)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_source(cls, source: object) -> InTraining | None:
        """What the source of a manifest, or the extra of a checkpoint, says; None where it says nothing."""
        found = source.get(KEY) if isinstance(source, Mapping) else None
        if not isinstance(found, Mapping):
            return None
        numbers = [found.get(key) for key in ("float_accuracy", "trained_accuracy")]
        float_accuracy, trained_accuracy = (float(n) if isinstance(n, (int, float)) else None for n in numbers)
        data, images = found.get("data"), found.get("images")
        return cls(
            float_accuracy=float_accuracy,
            trained_accuracy=trained_accuracy,
            data=data if isinstance(data, str) else None,
            images=images if isinstance(images, int) else None,
        )
