"""What the fold decided, tensor by tensor and layer by layer: the record that goes into manifest.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from typing import Any

from calib.errors import QuantizationError
from calib.words import counted


class Remainder(str, Enum):
    """What became of β - β', the part of a learned offset that the container's grid does not represent.

    NONE: there is none. CARRIED: the biases of the layers that read the grid took it (E4). MOVED: nothing took it, the
    grid itself lies at β' (8-bit grids after an operator without a bias). DROPPED: nothing took it (the naive fold).
    LOST: no layer reads the grid.
    """

    NONE = "none"
    CARRIED = "carried"
    MOVED = "moved"
    DROPPED = "dropped"
    LOST = "lost"


@dataclass(frozen=True, kw_only=True)
class TensorDecision:
    """One activation or edge on its container grid (E2-E5).

    name: the quantizer, or the edge's tensor. kind: activation, edge. codes: the tensor in the exported graphs that
    holds the codes. scale, offset: trained s and β (of an edge: S and -S·Z). levels: codes in use, p + 1 (after clamps
    before the grid were absorbed, E10). offset_carried: β', what the container grid represents. error_steps:
    (β' - β)/s. stride, origin, container_scale, zero_point: k, o, S, Z of E5. remainder: what became of β - β'.
    carried_by: the layers whose biases took it. border: the largest error that this leaves along a padded border, in
    the units of the consumer's output; 0 if none. channels: (first, last + 1) of the codes' channels that are this
    quantizer's, where parallel convolutions became one (merge_parallel.py); None for all.
    """

    name: str
    kind: str
    codes: str
    scale: float
    offset: float
    levels: int
    offset_carried: float
    error_steps: float
    stride: int = 1
    origin: int = 0
    container: str = "UINT8"
    container_scale: float
    zero_point: int
    remainder: Remainder
    carried_by: tuple[str, ...] = ()
    border: float = 0.0
    channels: tuple[int, int] | None = None


def carried(remainder: float, layers: Sequence[str]) -> dict[str, Any]:
    """`remainder` and `carried_by` of a decision whose β - β' goes into the biases of those layers."""
    if remainder == 0:
        return {"remainder": Remainder.NONE}
    return {"remainder": Remainder.CARRIED, "carried_by": tuple(layers)} if layers else {"remainder": Remainder.LOST}


@dataclass(frozen=True, kw_only=True)
class LayerDecision:
    """One Conv or Gemm on integers (E6-E9).

    bits: of the trained weight. scale: smallest and largest s_w of its channels as the file holds them, s_w·|γ|/σ/g.
    gain: g of E6, of all channels but a few. container: INT8, or UINT8 with zero point 128 (E7). bias_error_steps: the
    largest rounding of a bias in steps of the output's grid (0 if the output is the accumulator), and what bias
    correction moved one by.
    accumulator: bound of |acc| over all inputs. dead_channels: channels whose weights are stored as zero, because they
    are zero or negligible beside the bias. lowered_channels: channels with a smaller gain, so that their sums fit int32
    (exact). coarse_channels: channels with coarser weights (or none) for the same reason. coarse_steps: the most that
    this moves an output by, in steps of its grid, a bound over all inputs (E6b).
    """

    name: str
    operator: str
    bits: int
    scale: tuple[float, float]
    gain: int
    container: str
    bias_error_steps: float
    accumulator: int
    dead_channels: int
    lowered_channels: int = 0
    coarse_channels: int = 0
    coarse_steps: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BiasCorrection:
    """What bias correction did to one Conv or Gemm.

    images: that it was measured on. channels: of the layer. moved: those whose bias moved. largest_steps: the largest
    move, in steps of the output's grid (0 if the output is the accumulator). error_before, error_after: mean squared
    error of the layer's outputs, of what is rounded since the layers before, divided by their mean square.
    """

    name: str
    images: int
    channels: int
    moved: int
    largest_steps: float
    error_before: float
    error_after: float


def summary(corrections: Sequence[BiasCorrection]) -> str:
    """One line. The errors are means over the layers."""
    moved, channels = sum(c.moved for c in corrections), sum(c.channels for c in corrections)
    before, after = (
        sum(errors) / max(1, len(corrections))
        for errors in ([c.error_before for c in corrections], [c.error_after for c in corrections])
    )
    images = max((c.images for c in corrections), default=0)
    return (
        f"bias correction on {counted(images, 'image')}: moved {moved} of {channels} channels, "
        f"mean squared error of layer outputs, of their square, from {before:.3g} to {after:.3g}"
    )


def sums_summary(layers: Sequence[LayerDecision]) -> str | None:
    """One line on the channels whose integers were chosen so that sums fit int32 (E6a); None if there are none."""
    coarse, lowered = sum(d.coarse_channels for d in layers), sum(d.lowered_channels for d in layers)
    parts = [f"a smaller gain in {lowered} (exact)"] if lowered else []
    if coarse:
        worst = max(layers, key=lambda d: d.coarse_steps)
        parts.append(
            f"coarser weights in {coarse}, which moves outputs by at most {worst.coarse_steps:.2g} steps ({worst.name})"
        )
    return f"channels with a scale too small beside their bias: {'; '.join(parts)}" if parts else None


Decisions = tuple[tuple[TensorDecision, ...], tuple[LayerDecision, ...]]


def decisions_of(manifest: Mapping[str, Any]) -> Decisions:
    """The decisions that a manifest holds.

    Errors (QuantizationError): one of them lacks something.
    """
    try:
        tensors = tuple(_tensor(_known(TensorDecision, entry)) for entry in manifest["tensors"])
        return tensors, tuple(LayerDecision(**_known(LayerDecision, entry)) for entry in manifest["layers"])
    except (KeyError, TypeError, ValueError) as error:
        raise QuantizationError(
            f"manifest.json holds no decisions of the fold ({error}): export the bundle again"
        ) from error


def _tensor(known: dict[str, Any]) -> TensorDecision:
    """JSON has neither enums nor tuples."""
    channels = known.get("channels")
    return TensorDecision(
        **known
        | {
            "remainder": Remainder(known["remainder"]),
            "carried_by": tuple(known.get("carried_by", ())),
            "channels": channels if channels is None else tuple(channels),
        }
    )


def _known(kind: type[TensorDecision] | type[LayerDecision], entry: Mapping[str, Any]) -> dict[str, Any]:
    """What has a default may be missing: bundles of older versions lack it."""
    return {f.name: entry[f.name] for f in fields(kind) if f.name in entry or f.default is MISSING}
