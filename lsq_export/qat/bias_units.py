"""Biases that accumulators hold: in eval mode a layer's bias is a whole number of units, as in an exported file (E6).

    y = conv(x) + b                   =>  y = conv(x) + b'           b' + β·Σŵ - β_y is a multiple of s·s_w / g
    y = norm(conv(x))                 =>  the bias of the norm, likewise, with the unit s·s_w·|γ|/σ / g

A file has int32 biases in that unit, and rounding one moves up to 0.2 % of the codes of the layer's output by one (at 8
bits a step of the output is some hundred units). So the model that the file is held against rounds them as well.

s, β: of the layer's input. β_y: of the grid of its output, where the layer's bias carries it (E3). β·Σŵ: what the bias
carries of the input's grid (E4), where no padding is. g: the weight gain (E6). In training biases are what they are:
half a unit is less than the noise of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from calib.folding.containers import BIAS_LIMIT, DEPTHWISE_LIMIT, INTEGRAL, WEIGHT_LIMIT

from .layer_types import QUANTIZED_LAYERS, TransposedWeight
from .node_kinds import NORMS, asks, passes
from .quantizer import Quantizer


@dataclass(frozen=True)
class BiasUnit:
    """layer: with quantizers of its input and its weight. norm: the batch norm that alone reads it; None if there is
    none. output: the quantizer that reads it next.
    """

    layer: nn.Module
    norm: nn.modules.batchnorm._BatchNorm | None
    output: Quantizer

    @property
    def target(self) -> nn.Module:
        """The module whose bias is rounded."""
        return self.layer if self.norm is None else self.norm

    @torch.no_grad()
    def remainder(self) -> torch.Tensor | None:
        """What the bias lacks to a multiple of its unit, float64 [C]; None where quantizers are off or have no grid."""
        given, weights = self.layer.input_quantizer, _weight_quantizer(self.layer)
        assert isinstance(given, Quantizer) and weights is not None
        if any(q.bypass or q.left_out or not bool(q.initialized) for q in (given, weights, self.output)):
            return None
        codes, s_w = self._codes(weights), _positive(weights)
        unit: torch.Tensor = _positive(given) * s_w / _gain(codes, self.layer)
        own: Any = self.layer.bias
        bias: torch.Tensor = codes.new_zeros(len(codes)) if own is None else _float64(own)
        if not _is_integral(given) and not _pads(self.layer):
            bias = bias + _float64(given.effective_offset) * s_w * codes.flatten(1).sum(1)
        if self.norm is not None:
            factor = _float64(self.norm.weight) / (_float64(self.norm.running_var) + self.norm.eps).sqrt()
            bias = (bias - _float64(self.norm.running_mean)) * factor + _float64(self.norm.bias)
            unit = unit * factor.abs()
        if not _is_integral(self.output):
            bias = bias - _float64(self.output.effective_offset)
        steps = bias / unit
        counts = unit.isfinite() & (unit > 0) & (steps.abs() < BIAS_LIMIT)
        return torch.where(counts, (steps.round() - steps) * unit, 0.0)

    def _codes(self, weights: Quantizer) -> torch.Tensor:
        """Of the weight, [C_out, …], float64."""
        own: Any = self.layer.weight
        weight, kept = own.detach(), _last_parametrization(self.layer)
        if isinstance(kept, TransposedWeight):
            weight = kept.swapped(weight)
        steps: torch.Tensor = weight.to(torch.float64, copy=True)  # of a large layer: the one copy that is made
        return steps.div_(_positive(weights).reshape(-1, *[1] * (weight.dim() - 1))).round_()


def round_biases(model: fx.GraphModule) -> None:
    """Round the biases of quantized layers before grids, from now on, in eval mode."""
    found: dict[nn.Module, list[BiasUnit]] = {}
    for node in model.graph.nodes:
        unit = _unit_of(model, node)
        if unit is not None:
            found.setdefault(unit.target, []).append(unit)
    for target, units in found.items():
        layers = {unit.layer for unit in units}
        if len(layers) > 1 or len({unit.norm for unit in units}) > 1 or len({unit.output for unit in units}) > 1:
            continue  # one bias for several accumulators, or several grids
        target.bias_unit = units[0]  # type: ignore[assignment]
        target.register_forward_hook(_round, prepend=True)


@contextmanager
def rounded_biases(model: nn.Module) -> Iterator[None]:
    """Inside this block the parameters are the rounded biases, for an export: the graph then has no sum more."""
    found = {module: unit for module in model.modules() if (unit := _bias_unit(module)) is not None}
    before: dict[nn.Module, Any] = {module: module.bias for module in found}
    remainders = {module: unit.remainder() for module, unit in found.items()}
    try:
        for module, remainder in remainders.items():
            if remainder is not None and bool(remainder.any()):
                rounded = remainder if before[module] is None else before[module].double() + remainder
                module.bias = nn.Parameter(rounded.float(), requires_grad=False)
        yield
    finally:
        for module, bias in before.items():
            module.bias = bias


def _round(module: nn.Module, args: Any, y: torch.Tensor) -> torch.Tensor | None:
    unit = _bias_unit(module)
    if unit is None or module.training or torch.onnx.is_in_onnx_export():
        return None
    remainder = unit.remainder()
    if remainder is None:
        return None
    trailing = len(module.kernel_size) if isinstance(module, _ConvNd) else 0
    if isinstance(module, NORMS):
        trailing = max(0, y.dim() - 2)
    return y + remainder.reshape(-1, *[1] * trailing).to(y.device, y.dtype)


def _bias_unit(module: nn.Module) -> BiasUnit | None:
    found = getattr(module, "bias_unit", None)
    return found if isinstance(found, BiasUnit) else None


def _unit_of(model: fx.GraphModule, node: fx.Node) -> BiasUnit | None:
    layer = _module(model, node)
    if not isinstance(layer, QUANTIZED_LAYERS) or _weight_quantizer(layer) is None:
        return None
    readers = [reader for reader in node.users if not asks(reader)]
    norm = _module(model, readers[0]) if len(readers) == 1 else None
    if not isinstance(norm, NORMS):
        output = _grid_after(model, node)
        return None if output is None else BiasUnit(layer, None, output)
    if not norm.affine or not norm.track_running_stats:
        return None
    output = _grid_after(model, readers[0])
    return None if output is None else BiasUnit(layer, norm, output)


def _grid_after(model: fx.GraphModule, node: fx.Node) -> Quantizer | None:
    """The quantizer that alone reads a value, perhaps after operators that keep codes."""
    readers = [reader for reader in node.users if not asks(reader)]
    if len(readers) != 1:
        return None
    module = _module(model, readers[0])
    found = getattr(module, "input_quantizer", module)
    if isinstance(found, Quantizer):
        return found
    return _grid_after(model, readers[0]) if passes(model, readers[0]) else None


def _module(model: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return model.get_submodule(str(node.target)) if node.op == "call_module" else None


def _last_parametrization(layer: Any) -> nn.Module | None:
    """Of the weight; None of a layer that stays float, or makes its weight itself."""
    if not hasattr(layer, "input_quantizer") or not parametrize.is_parametrized(layer, "weight"):
        return None
    last: nn.Module = layer.parametrizations.weight[-1]
    return last


def _weight_quantizer(layer: nn.Module) -> Quantizer | None:
    last = _last_parametrization(layer)
    if isinstance(last, TransposedWeight):
        return last.quantizer
    return last if isinstance(last, Quantizer) else None


def _float64(tensor: Any) -> torch.Tensor:
    assert isinstance(tensor, torch.Tensor)
    return tensor.detach().double()


def _positive(quantizer: Quantizer) -> torch.Tensor:
    """The scale as forward uses it, float64."""
    return torch.where(quantizer.scale <= 0, quantizer.floor, quantizer.scale).detach().double()


def _is_integral(quantizer: Quantizer) -> bool:
    """Whether the offset is a multiple of the scale, so that no bias carries it."""
    steps = -quantizer.effective_offset.double() / _positive(quantizer) - quantizer.qmin
    near = (steps - steps.round()).abs() <= INTEGRAL
    return bool(near & (steps > -0.5) & (steps < quantizer.qmax - quantizer.qmin + 0.5))


def _gain(codes: torch.Tensor, layer: nn.Module) -> int:
    """g of E6, as `calib.folding.containers.weight_gain` has it."""
    depthwise = isinstance(layer, _ConvNd) and codes.shape[1] == 1 and layer.groups == len(codes) > 1
    largest = int(max(-codes.min(), codes.max()))
    return max(1, (DEPTHWISE_LIMIT if depthwise else WEIGHT_LIMIT) // max(1, largest))


def _pads(layer: nn.Module) -> bool:
    """A convolution that reads zeros around its input, as the phases of a transposed one do."""
    if isinstance(layer, _ConvTransposeNd):
        return True
    return isinstance(layer, _ConvNd) and (isinstance(layer.padding, str) or any(layer.padding))
