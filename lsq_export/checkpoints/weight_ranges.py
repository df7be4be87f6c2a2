"""Weights whose scale no checkpoint has, since the library takes it from the weights whenever it runs (Brevitas):

s = max|w| / (2^(b-1) - 1)     of each output channel or of all of them, codes without the lowest one
s = (max - min) / (2^b - 1)    unsigned codes, z = round(-min / s), min <= 0
s = 2^⌈log2 max|w|⌉ / 2^(b-1)    ranges that are powers of two
"""

from __future__ import annotations

import numpy as np
from torch import fx

from calib.errors import QuantizationError
from lsq_export.inspection.parametrizations import Asked, Ranges, Stored, in_ranges, of_magnitude
from lsq_export.qat.layer_types import output_channels

from .layer_values import turned, weight_of
from .learned import Learned, Raw, learned
from .mapping import UserMapping


def grid_of_largest(traced: fx.GraphModule, layer: str, said: UserMapping, where: str) -> Learned:
    """The grid of a layer's weight. Errors (QuantizationError): the user does not say of how many bits, and whether
    each channel has a scale."""
    bits = said.bits_of(weight=True)
    if bits is None:
        raise QuantizationError(
            f"{where} does not say how many bits the weight of {layer} has: give --bits, or weight_bits in a mapping"
        )
    if said.weights is None:
        raise QuantizationError(
            f"{where} has no scale for the weight of {layer}, which the library takes from the weights: say "
            'weights = "channel" or "tensor" in a mapping file, and list layers that are not quantized as float'
        )
    module = traced.get_submodule(layer)
    weight = turned(module, weight_of(module))
    rows = weight.reshape(output_channels(module) if said.weights == "channel" else 1, -1).double().numpy()
    raw = Raw(name=f"{layer}.weight", place=layer, role="weight", used=(), grid=_none)
    ranges: Ranges = said.ranges or "linear"  # type: ignore[assignment]
    if said.is_signed(raw.name, weight=True) is False:
        low = np.minimum(rows.min(axis=1), 0.0)
        most = _widened(rows.max(axis=1) - rows.min(axis=1), ranges)
        scale = most / (2**bits - (ranges != "power-of-two"))
        return learned(raw, Stored(scale=scale, zero_point=np.rint(-low / scale), bits=bits, codes=(0, 2**bits - 1)))
    asked = Asked(bits=bits, weight=True, narrow=True, ranges=ranges)
    return learned(raw, Stored(bits=bits, **of_magnitude(_widened(np.abs(rows).max(axis=1), ranges), bits, asked)))


def _widened(most: np.ndarray, ranges: Ranges) -> np.ndarray:
    """As Brevitas trains it, and 1 where all weights are zero."""
    known = np.where(most > 0, most, 1.0)
    return known if ranges == "linear" else in_ranges(np.log2(known), ranges)


def _none(asked: Asked) -> Stored:
    return Stored(bits=asked.bits)
