"""How a tensor uses the grid of its quantizer: clipped shares, codes in use, squared error.

One pass over any number of batches, in bounded memory. An element is clipped if the clamp of the trained grid (E1)
changes its code: round((x - β)/s) lies outside n … p, so its error is at least s/2. (The zeros of a ReLU that sit on
code n are not clipped.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from calib.errors import QuantizationError
from calib.grid import codes_, position, snap_
from calib.quantized import Quantized

BLOCK = 1 << 17  # elements that are copied at a time
# Share of the elements on either side that does not count: one outlier uses no code, and a clipped one is no drift.
TAIL = 1e-3

# What JSON may give for a field with this annotation; it writes 1.0 as 1.0 or 1.
_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}


@dataclass(frozen=True, kw_only=True)
class RangeUse:
    """What one quantizer saw. The grid is the one in use at the end.

    elements       how many it saw
    below, above   clipped shares, 0-1
    codes          width, in codes, of the range between the TAIL and the 1 - TAIL quantile of the codes; 1 … 2^bits
    min, max, mean, std   of the tensor, in its units; std of the population
    mse            mean of (x̂ - x)², in squared units of the tensor
    mse_below, mse_above  what the clipped elements add to mse
    noise          mse in units of s²/12, which a uniformly distributed, unclipped value would give
    """

    name: str
    bits: int
    scale: float
    offset: float
    elements: int
    below: float
    above: float
    codes: int
    min: float
    max: float
    mean: float
    std: float
    mse: float
    mse_below: float
    mse_above: float
    noise: float

    @property
    def relative_error(self) -> float | None:
        """mse / std², the inverse of the SQNR.

        The signal is what varies (a constant part can sit in a bias); None where nothing varies.
        """
        return self.mse / self.std**2 if self.std**2 > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `from_dict` reads them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> RangeUse:
        """The inverse of to_dict.

        Errors (QuantizationError): a field that is missing, unknown, of another type or not finite.
        """
        known = {field.name: _TYPES[str(field.type)] for field in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != set(known):
            content = ", ".join(map(str, values)) if isinstance(values, Mapping) else repr(values)
            raise QuantizationError(
                f"a record of a quantizer's range has {content}: it must have {', '.join(known)}; measure it again"
            )
        for key, kind in known.items():
            value = values[key]
            of_type = isinstance(value, kind) and not isinstance(value, bool)
            if not of_type or (isinstance(value, float) and not math.isfinite(value)):
                raise QuantizationError(f"the record of a quantizer's range has {key} {value!r}: measure it again")
        return cls(**values)


class RangeCounter:
    """Adds up what `RangeUse` says of one quantizer.

    In training the grid changes between updates; each element counts on the grid that is in use when it passes.
    """

    def __init__(self, quantizer: Quantized) -> None:
        self.quantizer = quantizer
        self._bins = torch.zeros(quantizer.qmax - quantizer.qmin + 3, dtype=torch.int64)  # below, code n … p, above
        self._errors = torch.zeros(len(self._bins), dtype=torch.float64)  # Σ (x̂ - x)² of the same
        self._min, self._max = math.inf, -math.inf
        self._center = math.nan  # the sums are of x - center: exact also where the mean is far from zero
        self._sum = self._square = self._noise = 0.0

    @torch.no_grad()
    def update(self, x: torch.Tensor) -> None:
        """Add every element of x (any shape, a float type), as it enters the quantizer.

        Values that are not finite are an error.
        """
        if x.numel() == 0:
            return
        x = x.detach()
        if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            x = x.permute(0, 2, 3, 1)  # so that flatten copies nothing
        flat = x.flatten()
        low, high = (float(v) for v in torch.aminmax(flat))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise QuantizationError(
                f"{self.quantizer.name}: values are not finite (NaN or infinity); check the model and the data"
            )
        self._min, self._max = min(self._min, low), max(self._max, high)
        compute = torch.promote_types(x.dtype, torch.float32)  # as the quantizer's forward does
        scale, offset = self.quantizer.scale.detach().to(compute), self.quantizer.effective_offset.detach().to(compute)
        if math.isnan(self._center):
            self._center = float(offset + scale * (self.quantizer.qmin + self.quantizer.qmax) / 2)
        for block in torch.split(flat, BLOCK):
            self._add(block.to(compute), scale, offset)

    def _add(self, x: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor) -> None:  # x [n], scale and offset []
        n, p = self.quantizer.qmin, self.quantizer.qmax
        v = position(x, scale, offset)
        bins = codes_(v.clone(), n - 1, p + 1).sub_(n - 1).long()
        self._bins += torch.bincount(bins, minlength=p - n + 3).cpu()
        squared = (snap_(v, scale, offset, n, p).double() - x).square_()
        errors = torch.bincount(bins, weights=squared, minlength=p - n + 3).cpu()
        centered = x.double() - self._center
        self._sum += float(centered.sum())
        self._square += float(centered.square_().sum())
        self._errors += errors
        self._noise += float(errors.sum()) / (float(scale) ** 2 / 12)

    def result(self) -> RangeUse:
        """What was counted. Errors (QuantizationError): nothing was."""
        q, bins = self.quantizer, self._bins.tolist()
        count = sum(bins)
        if not count:
            raise QuantizationError(f"{q.name}: no data: the batches never reach this quantizer; give batches that do")
        mean = self._sum / count
        return RangeUse(
            name=q.name,
            bits=q.bits,
            scale=float(q.scale.detach()),
            offset=float(q.effective_offset.detach()),
            elements=count,
            below=bins[0] / count,
            above=bins[-1] / count,
            codes=_codes([bins[0] + bins[1], *bins[2:-2], bins[-2] + bins[-1]]),
            min=self._min,
            max=self._max,
            mean=mean + self._center,
            std=math.sqrt(max(0.0, self._square / count - mean**2)),
            mse=float(self._errors.sum()) / count,
            mse_below=float(self._errors[0]) / count,
            mse_above=float(self._errors[-1]) / count,
            noise=self._noise / count,
        )


def _codes(counts: list[int]) -> int:
    """How many codes lie from the TAIL to the 1 - TAIL quantile. counts: the elements on each code."""
    limit = TAIL * sum(counts)

    def skipped(ordered: list[int]) -> int:
        """How many codes at the start hold no more than the limit together."""
        total = 0
        for index, count in enumerate(ordered):
            total += count
            if total > limit:
                return index
        return len(ordered)

    return len(counts) - skipped(counts) - skipped(counts[::-1])
