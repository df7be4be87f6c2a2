"""integers: weights and biases of every Conv and Gemm go into their integer containers (E6, E7).

    DequantizeLinear(q; s)              =>  DequantizeLinear(g·q as INT8; s/g)          |g·q| <= 64, 127 if depthwise
    DequantizeLinear(q; s), |q| > 64    =>  DequantizeLinear(q + 128 as UINT8; s, 128)  (127 with a code +128)
    b                                   =>  DequantizeLinear(round(b / u) as INT32; u)  u = S·s/g

The folded model is the graph after this pass: it computes with the rounded biases.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as replace_fields

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import CONTAINER_MAX, quantize_bias
from calib.rounding.requantization import OutputGrid, exact_scale
from lsq_export.graph.edit import clean, constant, insert
from lsq_export.graph.layers import (
    bias_of,
    gain_of,
    input_scale_of,
    layer_of,
    output_grid_of,
    set_weight,
    weight_codes,
    weight_limit,
    weight_of,
)
from lsq_export.graph.notes import BITS
from lsq_export.graph.operators import LAYERS
from lsq_export.graph.read import is_op
from lsq_export.rewrite.contract.conditions import INTEGER_BIASES, NO_MARKERS
from lsq_export.rewrite.contract.decisions import LayerDecision
from lsq_export.rewrite.contract.passes import Keeps, Pass, State

NEGLIGIBLE_STEPS = 2.0**-10  # a channel that moves its output by less than this may be stored without weights
SMALLEST = float(np.finfo(np.float32).tiny)


def place_integers(model: ir.Model, *, gain: bool = True) -> list[LayerDecision]:
    """gain: use the head room of the 8-bit container (E6); without, the weights stay b-bit codes."""
    graph = model.graph
    decisions = [_place(graph, node, gain) for node in list(graph) if is_op(node, *LAYERS)]
    clean(model)
    return decisions


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """What the integers of a layer are made of. codes: of the weight. scale: float64 [C_out], before the gain."""

    node: ir.Node
    codes: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    gain: int
    input_scale: float
    output: OutputGrid | None

    @property
    def name(self) -> str:
        return layer_of(self.node)

    @property
    def step(self) -> float | None:
        """Of the output's grid; None where the accumulator is the output."""
        return self.output.scale if self.output else None

    def magnitudes(self) -> np.ndarray:
        """Σ|q| of each output channel, [C_out]."""
        sums: np.ndarray = np.abs(self.codes.astype(np.int64)).sum(axis=tuple(range(1, self.codes.ndim)))
        return sums


def _place(graph: ir.Graph, node: ir.Node, with_gain: bool) -> LayerDecision:
    layer, dead = _without_dead_channels(node, gain_of(node) if with_gain else 1)
    scale, unit = _stored_scales(layer)
    try:
        bias_codes = quantize_bias(layer.bias, unit.astype(np.float64))
    except QuantizationError as error:
        raise QuantizationError(f"{layer.name}: {error}") from error
    bits = BITS.read(weight_of(node).outputs[0])
    container = _store_weight(graph, node, layer.codes * layer.gain, scale)
    _store_bias(graph, node, layer.name, bias_codes, unit)
    rounding = np.abs(bias_codes * unit.astype(np.float64) - layer.bias).max() / layer.step if layer.step else 0.0
    bound = int((layer.magnitudes() * layer.gain * CONTAINER_MAX + np.abs(bias_codes.astype(np.int64))).max())
    if bound >= 2**31:
        raise QuantizationError(
            f"{layer.name}: its accumulator can reach {bound}, beyond int32: use fewer bits or fewer input channels"
        )
    return LayerDecision(
        name=layer.name,
        operator=node.op_type,
        bits=bits,
        scale=(float(scale.min()), float(scale.max())),
        gain=layer.gain,
        container=container,
        bias_error_steps=float(rounding),
        accumulator=bound,
        dead_channels=int(dead.sum()),
    )


def _without_dead_channels(node: ir.Node, gain: int) -> tuple[_Layer, np.ndarray]:
    """The layer with zero codes in dead channels, and which those are, bool [C_out]."""
    codes, scale = weight_codes(node)
    layer = _Layer(
        node=node,
        codes=codes,
        scale=scale,
        bias=bias_of(node),
        gain=gain,
        input_scale=input_scale_of(node),
        output=output_grid_of(node),
    )
    dead = _dead_channels(layer)
    dead |= (layer.magnitudes() == 0) & (layer.bias != 0)  # without weights any scale serves: one that holds the bias
    codes[dead] = 0
    return replace_fields(layer, scale=np.where(dead, _live_scale(layer), scale)), dead


def _stored_scales(layer: _Layer) -> tuple[np.ndarray, np.ndarray]:
    """(s_w, S·s_w), float32 [C_out] each: of the weights and of the biases in the file (E6, E9)."""
    scale = layer.scale / layer.gain
    largest = layer.magnitudes() * layer.gain * float(CONTAINER_MAX) + np.abs(layer.bias) / (scale * layer.input_scale)
    stored = exact_scale(scale, layer.input_scale, layer.output, largest + 2, bias=layer.bias, gain=layer.gain)
    unit = (np.float32(layer.input_scale) * stored).astype(np.float32)
    multiplier = unit if layer.step is None else (unit / np.float32(layer.step)).astype(np.float32)
    if not all((values >= SMALLEST).all() for values in (stored, unit, multiplier)):
        raise QuantizationError(
            f"{layer.name}: a scale underflows float32 (smallest multiplier {float(multiplier.min()):.3g}); "
            "train the layer's scales again"
        )
    return stored, unit


def _dead_channels(layer: _Layer) -> np.ndarray:
    """Channels whose bias does not fit its unit: their weights are negligible beside it (γ near 0)."""
    bias, unit = layer.bias, layer.scale * layer.input_scale / layer.gain
    # [C_out], |Σ w·x|
    largest = layer.magnitudes().astype(np.float64) * CONTAINER_MAX * layer.scale * layer.input_scale
    step = layer.step if layer.step is not None else np.abs(bias).max(initial=SMALLEST)
    with np.errstate(divide="ignore", over="ignore"):
        overflow: np.ndarray = (np.abs(bias) / unit > 2**30) | (unit < SMALLEST)
    needed = overflow & (largest > NEGLIGIBLE_STEPS * step)
    if needed.any():
        channel = int(np.argmax(needed))
        raise QuantizationError(
            f"{layer.name}: the bias of channel {channel} is {bias[channel]:.6g}, beyond int32 in units of "
            f"{unit[channel]:.3g}, and its weights still matter; retrain it"
        )
    return overflow


def _live_scale(layer: _Layer) -> np.ndarray:
    """For a channel without weights: the scale whose bias unit holds the bias with 2^-20 of relative rounding."""
    scale: np.ndarray = np.maximum(np.abs(layer.bias), 1e-20) * 2.0**-20 / layer.input_scale * layer.gain
    return scale


def _store_weight(graph: ir.Graph, node: ir.Node, codes: np.ndarray, scale: np.ndarray) -> str:
    if np.abs(codes).max(initial=0) <= weight_limit(node):
        set_weight(node, graph, codes.astype(np.int8), scale, np.zeros(len(scale), np.int8))
        return "INT8"
    # E8: γ < 0 turned -128 into +128; such a channel's codes are -127 … 128
    flipped = codes.reshape(len(codes), -1).max(axis=1) > 127
    zero_point = np.where(flipped, 127, 128).astype(np.uint8)
    shifted = codes.astype(np.int64) + zero_point.astype(np.int64).reshape(-1, *[1] * (codes.ndim - 1))
    set_weight(node, graph, shifted.astype(np.uint8), scale, zero_point)
    return "UINT8"


def _store_bias(graph: ir.Graph, node: ir.Node, layer: str, codes: np.ndarray, unit: np.ndarray) -> None:
    inputs = [constant(graph, f"{layer}.bias.codes", codes), constant(graph, f"{layer}.bias.scale", unit)]
    value = insert(node, "DequantizeLinear", inputs, f"{layer}.bias.values", shape=[len(codes)], axis=0)
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, value)


def _run(model: ir.Model, state: State) -> None:
    corrected = {correction.name: correction.largest_steps for correction in state.corrections}
    state.layers = [
        replace_fields(d, bias_error_steps=d.bias_error_steps + corrected.get(d.name, 0.0))
        for d in place_integers(model, gain=state.fold == "strided")
    ]


PASS = Pass("place_integers", _run, Keeps.CODES, requires=(NO_MARKERS,), ensures=(INTEGER_BIASES,))
