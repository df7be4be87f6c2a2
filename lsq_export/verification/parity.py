"""What `verify` finds out about a bundle, as data, with one line for each promise that is broken.

1. ONNX Runtime ≡ integer reference      no element of a qoperator file differs, outside its float islands
2. integer graph ≡ folded model          codes differ by ties of float rounding alone, accumulators not at all
3. folded model against trained model    a number; a failure only where the network is another one
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from calib.tables import Table, Tabular, decibel, percent

from .format_parity import FormatParity
from .layer_parity import QDQ_TIES, LayerParity, Layers

NUDGE = 1e-4  # relative
NUDGED = f"trained, inputs × {1 + NUDGE:g}"  # name of that row in tables
# A flipped tie inside a low-bit network moves an output; the median over images is blind to single flips.
CAPTURE_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True, repr=False)
class Parity(Tabular):
    """All that was found out about a bundle.

    folded_*: the folded model (float64) against the trained one: the price of the fold, promise 3. capture_error:
    median over the images of |captured - trained| / max |trained|; None where no PyTorch model was given.
    captured_layers: where that is above CAPTURE_TOLERANCE, the captured graph against the PyTorch model layer by layer
    on the same inputs (`captured.py`). damaged: files that are not what SHA256SUMS says. golden: formats whose golden
    outputs are not the integer reference's. Accuracies are None where the batches had no targets. nudged_*: the trained
    model against itself on inputs larger by NUDGE, for scale: a low-bit network amplifies what changes, and a fold that
    is as near as that could not be nearer in effect. trained_layers: codes of the learned quantizers, folded against
    trained on the same inputs (`trained_layers.py`).
    """

    formats: dict[str, FormatParity]
    images: int
    trained_accuracy: float | None
    folded_accuracy: float | None
    folded_top1_agreement: float
    folded_sqnr_db: float
    capture_error: float | None
    nudged_top1_agreement: float
    nudged_sqnr_db: float
    captured_layers: tuple[LayerParity, ...] = ()
    damaged: tuple[str, ...] = ()
    golden: tuple[str, ...] = ()
    trained_layers: tuple[LayerParity, ...] = ()

    def __post_init__(self) -> None:
        for name in ("trained_layers", "captured_layers"):
            object.__setattr__(self, name, Layers(getattr(self, name)))

    @property
    def table(self) -> Table:
        """What is shown: the formats beside the trained and the folded model, and the verdict."""
        rows: list[tuple[object, ...]] = [
            ("trained", percent(self.trained_accuracy)),
            (NUDGED, "", percent(self.nudged_top1_agreement), decibel(self.nudged_sqnr_db)),
            (
                "folded (float64)",
                percent(self.folded_accuracy),
                percent(self.folded_top1_agreement),
                decibel(self.folded_sqnr_db),
            ),
            *(
                (name, percent(f.accuracy), percent(f.top1_agreement), decibel(f.sqnr_db), f.reference_mismatch)
                for name, f in self.formats.items()
            ),
        ]
        columns = ("model", ">accuracy", ">top-1 agreement", ">SQNR", ">≠ integer reference")
        padded = [(*row, *[None] * (len(columns) - len(row))) for row in rows]
        return Table(f"Parity with the trained model, {self.images} images", columns, padded, self.verdict.splitlines())

    @property
    def verdict(self) -> str:
        """That all promises hold, or a line for each one that does not."""
        return "\n".join(f"FAILED: {line}" for line in self.failures) or "all promises hold"

    @property
    def ok(self) -> bool:
        """Whether all promises hold."""
        return not self.failures

    @property
    def failures(self) -> list[str]:
        """Broken promises, one line each."""
        golden = "the golden vectors (test_data_set_0) are not what the integer reference computes"
        return [
            *(f"{name}: the file is not the one that was exported (SHA256SUMS)" for name in self.damaged),
            *(f"{name}: {golden}" for name in self.golden),
            *self._wrong_capture(),
            *self._wrong_fold(),
            *(line for parity in self.formats.values() for line in parity.failures),
        ]

    def _wrong_capture(self) -> Iterator[str]:
        if self.capture_error is None or self.capture_error <= CAPTURE_TOLERANCE:
            return
        wrong = next((layer for layer in self.captured_layers if not layer.within(QDQ_TIES)), None)
        if self.captured_layers and wrong is None:
            return  # each layer is the trained one on the same inputs: outputs differ for single codes that flipped
        where = ""
        if wrong is not None:
            where = f"; {wrong.name} differs first, in {wrong.differing:.2%} of its elements on the same inputs"
        yield (
            "the captured graph is not the trained model: its outputs differ by "
            f"{self.capture_error:.2e} of their range on the median image{where}"
        )

    def _wrong_fold(self) -> Iterator[str]:
        if not self.folded_sqnr_db > 0:
            yield (
                "the folded model is not the trained one: its outputs' error is as large as they are (SQNR "
                f"{self.folded_sqnr_db:.1f} dB)"
            )
        for layer in self.trained_layers:
            if layer.outside:
                yield f"{layer.name}: {layer.outside} of {layer.elements} codes are none of its grid's"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for parity.json; an infinite SQNR (no noise at all) is null there."""
        plain = asdict(self)
        for name, parity in self.formats.items():
            first = parity.first_differing
            plain["formats"][name] |= {"ok": parity.ok, "first_differing": first.name if first else None}
        of_formats = [layer for parity in plain["formats"].values() for layer in parity["layers"]]
        for layer in (*plain["trained_layers"], *plain["captured_layers"], *of_formats):
            layer["histogram"] = {str(k): v for k, v in sorted(layer["histogram"].items())}
            layer["reasons"] = {str(k): v for k, v in layer["reasons"].items()}
        return {"ok": self.ok, "failures": self.failures, **finite(plain)}


def finite(value: Any) -> Any:
    """Plain values for JSON: None for what is not a number, or infinite."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
