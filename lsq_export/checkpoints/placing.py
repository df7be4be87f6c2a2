"""Grids go into the graph of the float network, each at its place:

    behind a tensor, for all of its readers      y = f(x)            =>  y = FakeQuantize(f(x))
    in front of a layer, for it alone            y = layer(x)        =>  y = layer(FakeQuantize(x))
    on a weight                                  y = layer(x; w)     =>  y = layer(x; FakeQuantize(ŵ)), ŵ = s·codes

A weight is stored as what the library's simulation made of it: rounding it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from calib.errors import QuantizationError
from calib.quantized import QuantizerSpec
from lsq_export.qat.layer_types import QUANTIZED_LAYERS, output_channels, parametrization
from lsq_export.qat.places import place_of
from lsq_export.qat.quantizer import Quantizer

from .layer_values import turned, weight_of
from .learned import WIDEST, Learned
from .sites import Site
from .weight_codes import along, codes_of

CONTAINER = 128  # the codes of weights are held by int8


def put_activation(traced: fx.GraphModule, grid: Learned, sites: Sequence[Site], tips: dict[fx.Node, fx.Node]) -> str:
    """Put one grid behind all of these. tips: {node: what its readers read now}. Returns the quantizer's name."""
    name = _free(traced, f"grids.{_plain(grid.raw.place)}")
    quantizer = _activation(name, grid)
    traced.add_submodule(name, quantizer)
    made: dict[fx.Node, fx.Node] = {}
    for site in sites:
        source = tips.get(site.node, site.node)
        if source not in made:
            quantizer.place = quantizer.place or place_of(traced, site.node)
            with traced.graph.inserting_after(source):
                made[source] = traced.graph.call_module(name, (source,))
            made[source].meta = dict(site.node.meta)
        if site.reader is None:
            for reader in [user for user in source.users if user is not made[source]]:
                reader.replace_input_with(source, made[source])
            tips[site.node] = made[source]
        else:
            site.reader.replace_input_with(source, made[source])
    return name


def _activation(name: str, grid: Learned) -> Quantizer:
    first, last = int(grid.first), int(grid.last)
    bits = max(2, (last - first).bit_length())
    spec = QuantizerSpec(
        name=name, kind="activation", bits=bits, qmin=first, qmax=last, symmetric=not grid.offset.any()
    )
    return _with_grid(Quantizer(spec), grid)


def _with_grid(quantizer: Quantizer, grid: Learned) -> Quantizer:
    try:
        quantizer.set_grid(grid.scale.astype(np.float32), grid.offset.astype(np.float32))
    except QuantizationError as error:
        raise QuantizationError(f"{grid.raw.name}: {str(error).partition(': ')[2]}") from error
    quantizer.requires_grad_(False)
    return quantizer.eval()


def why_not(grid: Learned, layer: nn.Module | None = None) -> str | None:
    """Why a grid cannot be carried; None: it can be. layer: of a weight."""
    if grid.levels > WIDEST:
        return f"it stays float: its grid has {grid.levels} codes, integers of 8 bits have {WIDEST}"
    if layer is None:
        return (
            None
            if grid.scale.ndim == 0 and grid.first.ndim == 0
            else "it stays float: an activation with a scale for each channel"
        )
    if not isinstance(layer, QUANTIZED_LAYERS):
        return f"it stays float: {type(layer).__name__} has no integer form"
    if grid.inputs is not None:
        return "it stays float: its weight has scales along its inputs"
    if grid.offset.any():
        return "it stays float: its weight has a real offset"
    codes = codes_of(layer, grid)
    if (codes < -CONTAINER).any() or (codes >= CONTAINER).any():  # those of one channel may, and be zero
        return "it stays float: its weight codes less their zero point do not fit int8"
    return None


@torch.no_grad()
def put_weight(traced: fx.GraphModule, name: str, grid: Learned) -> None:
    """Put the weight of a layer onto its grid. Errors (QuantizationError): weights that are not finite."""
    layer = traced.get_submodule(name)
    channels = output_channels(layer)
    by_channel = grid.scale.ndim > 0 or grid.first.ndim > 0
    codes = codes_of(layer, grid)
    if not torch.isfinite(codes).all():
        raise QuantizationError(
            f"{name}: its weight, with its batch norm, is not finite: take that of another training"
        )
    largest = max(int(codes.max()), int(-codes.min()) - 1, 1)
    quantizer = Quantizer.weight(f"{name}.weight", largest.bit_length() + 1, channels=channels if by_channel else None)
    _with_grid(quantizer, grid)
    weight_of(layer).copy_(turned(layer, codes * along(grid.scale, layer, grid)))
    parametrize.register_parametrization(layer, "weight", parametrization(layer, quantizer).eval(), unsafe=True)


@torch.no_grad()
def simulate(traced: fx.GraphModule, name: str, grid: Learned) -> None:
    """Give a layer that stays float the weight that the library's simulation has."""
    layer = traced.get_submodule(name)
    if isinstance(layer, QUANTIZED_LAYERS):
        scale, offset = (along(values, layer, grid) for values in (grid.scale, grid.offset))
        weight_of(layer).copy_(turned(layer, codes_of(layer, grid) * scale + offset))


def _plain(place: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in place).strip("_") or "grid"


def _free(traced: nn.Module, name: str) -> str:
    """A name that no quantizer has."""
    grids: Mapping[str, nn.Module] = dict(traced.named_modules())
    taken = name if name not in grids and not hasattr(nn.Module, name.rpartition(".")[2]) else f"{name}_grid"
    number = 1
    while taken in grids:
        taken, number = f"{name}_{number}", number + 1
    return taken
