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
    if grid.offset.any():
        return "it stays float: its weight has a real offset"
    codes = codes_of(layer, grid)
    if (codes < -CONTAINER).any() or (codes >= CONTAINER).any():  # those of one channel may, and be zero
        return "it stays float: its weight codes less their zero point do not fit int8"
    return None


@torch.no_grad()
def put_weight(traced: fx.GraphModule, name: str, grid: Learned) -> None:
    """Put the weight of a layer onto its grid. Errors (QuantizationError): scales of another number of channels."""
    layer = traced.get_submodule(name)
    channels = output_channels(layer)
    if grid.scale.ndim and grid.scale.size != channels:
        raise QuantizationError(
            f"{grid.raw.name}: {grid.scale.size} scales for the {channels} output channels of {name}: the checkpoint "
            "is of another network, or has scales along another axis, which is not read"
        )
    by_channel = grid.scale.ndim > 0 or grid.first.ndim > 0
    codes = codes_of(layer, grid)
    if not torch.isfinite(codes).all():
        raise QuantizationError(
            f"{name}: its weight, with its batch norm, is not finite: take that of another training"
        )
    largest = max(int(codes.max()), int(-codes.min()) - 1, 1)
    quantizer = Quantizer.weight(f"{name}.weight", largest.bit_length() + 1, channels=channels if by_channel else None)
    _with_grid(quantizer, grid)
    on_grid = codes * _shaped(grid.scale.astype(np.float32), codes.dim())
    weight_of(layer).copy_(turned(layer, on_grid))
    parametrize.register_parametrization(layer, "weight", parametrization(layer, quantizer).eval(), unsafe=True)


@torch.no_grad()
def simulate(traced: fx.GraphModule, name: str, grid: Learned) -> None:
    """Give a layer that stays float the weight that the library's simulation has."""
    layer = traced.get_submodule(name)
    if isinstance(layer, QUANTIZED_LAYERS) and grid.scale.size in (1, output_channels(layer)):
        scale, offset = (_shaped(v.astype(np.float32), weight_of(layer).dim()) for v in (grid.scale, grid.offset))
        weight_of(layer).copy_(turned(layer, codes_of(layer, grid) * scale + offset))


def codes_of(layer: nn.Module, grid: Learned) -> torch.Tensor:
    """float32, output channels first, whole numbers: as the library rounds them, in float32."""
    weight = turned(layer, weight_of(layer))
    scale = _shaped(grid.scale.astype(np.float32), weight.dim())
    first, last = (_shaped(limit.astype(np.float32), weight.dim()) for limit in (grid.first, grid.last))
    weight = weight - _shaped(grid.offset.astype(np.float32), weight.dim())
    if grid.raw.steps == "ranged":
        steps = _of_range(weight, grid)
    else:
        steps = weight * (1 / scale) if grid.raw.steps == "multiplied" else weight / scale
    whole = steps.round() if grid.raw.rounding == "half-even" else steps.sign() * (steps.abs() + 0.5).floor()
    return torch.maximum(torch.minimum(whole, last), first)


def _of_range(weight: torch.Tensor, grid: Learned) -> torch.Tensor:
    """NNCF's arithmetic, which meets the ends of a range exactly: half of it, as of first layers, is 63.5 steps."""
    ends = (grid.scale * grid.last, grid.first / np.maximum(grid.last, 1), grid.last - grid.first)
    high, ratio, count = (_shaped(end.astype(np.float32), weight.dim()) for end in ends)
    low = high * ratio
    factor = count / (high - low)
    inside = torch.minimum(torch.maximum(weight, low), low + (high - low))
    return (inside - low) * factor - (-low * factor).round()


def _shaped(values: np.ndarray, rank: int) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor if tensor.dim() == 0 else tensor.reshape(-1, *[1] * (rank - 1))


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
