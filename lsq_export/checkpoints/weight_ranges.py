"""Weights whose scale no checkpoint has, since the library takes it from the weights whenever it runs (Brevitas):

s = max|w| / (2^(b-1) - 1), of each output channel or of all of them, codes without the lowest one
"""

from __future__ import annotations

import numpy as np
from torch import fx

from calib.errors import QuantizationError
from lsq_export.inspection.parametrizations import Asked, Stored, code_limits
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
    rows = weight.reshape(output_channels(module), -1).abs().double().numpy()
    most = rows.max(axis=1) if said.weights == "channel" else rows.max().reshape(1)
    first, last = code_limits(bits, True, narrow=True)
    scale = np.where(most > 0, most, 1.0) / last
    raw = Raw(name=f"{layer}.weight", place=layer, role="weight", used=(), grid=_none)
    return learned(raw, Stored(scale=scale, bits=bits, codes=(first, last)))


def _none(asked: Asked) -> Stored:
    return Stored(bits=asked.bits)
