"""What `verify` finds out about a bundle, as data, with one line for each promise that is broken.

The promises, by name, are in `promises.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from calib.errors import ParityWarning, warn
from calib.tables import Table, Tabular, decibel, percent
from calib.words import counted
from lsq_export.qat.origins import TRAINED, origin_of

from .answers import ALL_HOLD, main_of, others, otherwise
from .far import NUDGE as NUDGE
from .far import Far, far_of, is_small
from .format_parity import FormatParity
from .in_training import InTraining
from .layer_parity import QDQ_TIES, LayerParity, Layers
from .part_parity import PartParity, lost_channels, lost_parts
from .promises import Broken, Name, Promise, promises_of

# A flipped tie inside a low-bit network moves an output; the median over images is blind to single flips.
CAPTURE_TOLERANCE = 1e-3


def nudged_row(origin: str) -> str:
    """The name of the yardstick's row in tables."""
    return f"{origin}, inputs × {1 + NUDGE:g}"


@dataclass(frozen=True, kw_only=True, repr=False)
class Parity(Tabular):
    """All that was found out about a bundle.

    folded_*: the folded model (float64) against the trained one: the price of the fold, promise 3; of the worst output,
    *_outputs_sqnr_db: {output: the same}, where there are several of floats. capture_error:
    median over the images of |captured - trained| / max |trained|; None where no PyTorch model was given.
    captured_layers: where that is above CAPTURE_TOLERANCE, the captured graph against the PyTorch model layer by
    layer on the same inputs (`captured.py`). steady: asked twice, the PyTorch model gives the same answers.
    damaged: files that are not what SHA256SUMS says. golden: formats whose golden outputs are not the integer
    reference's. Accuracies are None where the batches had no targets. nudged_*: the trained model against itself on
    inputs larger by NUDGE (`yardstick.py`), for scale: a low-bit network amplifies what changes, and a fold that is
    as near as that could not be nearer in effect. trained_layers: codes of the learned quantizers, folded against
    trained on the same inputs (`trained_layers.py`). parts: of outputs, each against itself (`output_parts.py`).
    same_integers: {output of integers or masks: share of them that are the trained model's}. in_training: what the
    training measured, if the bundle knows it. data, split: what the images are of ("calibration" in an export),
    where a command knows it. differences: in what those data are not what the bundle was made for, one line each.
    places: {tensor: what makes it in the user's model}, where its name does not say it. grids: how they came to be, as
    in `qat/origins.py`; sentences call the network so.
    """

    formats: dict[str, FormatParity]
    images: int
    trained_accuracy: float | None
    folded_accuracy: float | None
    folded_top1_agreement: float | None
    folded_sqnr_db: float
    capture_error: float | None
    nudged_top1_agreement: float | None
    nudged_sqnr_db: float
    parts: tuple[PartParity, ...] = ()
    steady: bool = True
    same_integers: Mapping[str, float] = field(default_factory=dict)
    captured_layers: tuple[LayerParity, ...] = ()
    damaged: tuple[str, ...] = ()
    golden: tuple[str, ...] = ()
    trained_layers: tuple[LayerParity, ...] = ()
    in_training: InTraining | None = None
    data: str | None = None
    split: str | None = None
    differences: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    grids: str = TRAINED
    folded_outputs_sqnr_db: Mapping[str, float] = field(default_factory=dict)
    nudged_outputs_sqnr_db: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("trained_layers", "captured_layers"):
            object.__setattr__(self, name, Layers(getattr(self, name)))

    @property
    def table(self) -> Table:
        """What is shown: the formats beside the trained and the folded model, and the verdict."""
        rows: list[tuple[object, ...]] = [
            *self._float_row(),
            (self.grids, percent(self.trained_accuracy)),
            (nudged_row(self.grids), "", percent(self.nudged_top1_agreement), decibel(self.nudged_sqnr_db)),
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
        title = f"Parity with the {self.grids} model, {counted(self.images, 'image')}"
        return Table(title, columns, padded, self.verdict.splitlines())

    def _float_row(self) -> Iterator[tuple[object, ...]]:
        """The float network, where the training measured it, and on what."""
        known = self.in_training
        if known is not None and known.float_accuracy is not None:
            yield f"float ({known.place})" if known.place else "float", percent(known.float_accuracy)

    @property
    def verdict(self) -> str:
        """That all promises hold, and whether the answers are others all the same; or a line for each broken one."""
        same = self.formats[main_of(self.formats)].top1_agreement
        held = ", ".join(filter(None, (ALL_HOLD, otherwise(same, self.grids))))
        losses = others(self.same_integers, self.grids), lost_channels(self.parts)
        far = self.far.said(self.grids) if self.far and not is_small(self.folded_sqnr_db) else ""
        return "\n".join(f"FAILED: {line}" for line in self.failures) or "; ".join(filter(None, (held, *losses, far)))

    def told(self) -> Parity:
        """The same, after a ParityWarning of what whoever does not print the verdict should know."""
        if self.verdict != ALL_HOLD:
            warn(f"{'; '.join(self.verdict.splitlines())} (parity.ok is {self.ok})", ParityWarning)
        return self

    @property
    def far(self) -> Far | None:
        """Where the fold is far below the yardstick, and why; None where it is not."""
        return far_of(self.folded_sqnr_db, self.nudged_sqnr_db, self.trained_layers, self.places)

    @property
    def ok(self) -> bool:
        """Whether all promises hold."""
        return not self.failures

    @property
    def failures(self) -> list[str]:
        """Broken promises, one line each."""
        return [broken.line for broken in self._broken()]

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What is said about each promise."""
        counts = [parity.counts for parity in self.formats.values()]
        return promises_of(
            counts,
            list(self._broken()),
            images=self.images,
            sqnr_db=self.folded_sqnr_db,
            lost=lost_channels(self.parts),
            origin=self.grids,
        )

    def _broken(self) -> Iterator[Broken]:
        golden = "the golden vectors (test_data_set_0) are not what the integer reference computes"
        for name in self.damaged:
            yield Broken(Name.INTACT_FILES, f"{name}: the file is not the one that was exported (SHA256SUMS)")
        for name in self.golden:
            yield Broken(Name.INTACT_FILES, f"{name}: {golden}")
        for line in (*self._wrong_capture(), *self._wrong_fold()):
            yield Broken(Name.MEASURED_FOLD, line)
        for parity in self.formats.values():
            yield from parity.broken

    def _wrong_capture(self) -> Iterator[str]:
        if self.capture_error is None or self.capture_error <= CAPTURE_TOLERANCE:
            return
        wrong = next((layer for layer in self.captured_layers if not layer.within(QDQ_TIES)), None)
        if self.captured_layers and wrong is None:
            return  # each layer is the trained one on the same inputs: outputs differ for single codes that flipped
        if not self.steady:
            yield (
                "the PyTorch model gives other answers each time it is asked: nothing can be compared with it; in eval "
                "mode it draws random numbers (F.dropout without training=self.training, torch.rand, …)"
            )
            return
        where = ""
        if wrong is not None:
            where = f"; {wrong.name} differs first, in {wrong.differing:.2%} of its elements on the same inputs"
        yield (
            f"the captured graph is not the {self.grids} model: its outputs differ by "
            f"{self.capture_error:.2e} of their range on the median image{where}"
        )

    def _wrong_fold(self) -> Iterator[str]:
        if not self.folded_sqnr_db > 0:
            yield (
                f"the folded model is not the {self.grids} one: its outputs' error is as large as they are (SQNR "
                f"{self.folded_sqnr_db:.1f} dB)"
            )
        yield from lost_parts(self.parts, self.grids)
        for layer in self.trained_layers:
            if layer.outside:
                yield f"{layer.name}: {layer.outside} of {layer.elements} codes are none of its grid's"

    def of_source(self, source: Mapping[str, Any] | None, *, split: str | None = None) -> Parity:
        """The same with what the source of a manifest tells.

        split: of the source's data that was verified on; None: other images, or not known.
        """
        data = (source or {}).get("data") if split else None
        known = data if isinstance(data, str) else None
        trained = InTraining.from_source(source)
        return replace(self, in_training=trained, data=known, split=split, grids=origin_of(source))

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
        promises = [{**asdict(promise), "name": str(promise.name)} for promise in self.promises]
        del plain["places"]  # the manifest has them
        far = self.far.to_dict() if self.far is not None else None
        return {"ok": self.ok, "failures": self.failures, "promises": promises, **finite({"far": far, **plain})}


def finite(value: Any) -> Any:
    """Plain values for JSON: None for what is not a number, or infinite."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
