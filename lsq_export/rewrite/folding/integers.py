"""integers: weights and biases of every Conv and Gemm go into their integer containers (E6, E7).

    DequantizeLinear(q; s)              =>  DequantizeLinear(g·q as INT8; s/g)          |g·q| <= 64, 127 in depthwise convolutions
    DequantizeLinear(q; s), |q| > 64    =>  DequantizeLinear(q + 128 as UINT8; s, 128)  (127 for a channel with the code +128)
    b                                   =>  DequantizeLinear(round(b / u) as INT32; u)   u = S·s/g

The folded model is the graph after this pass: it computes with the rounded biases.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import CONTAINER_MAX, quantize_bias
from calib.rounding.requantization import OutputGrid, exact_scale
from lsq_export.graph.build import clean, constant, constant_of, insert, is_op
from lsq_export.rewrite.folding.decisions import LayerDecision
from lsq_export.rewrite.normalizing.normalize import LINEAR

from .weights import bias_of, gain_of, layer_of, set_weight, weight_codes, weight_limit, weight_of

NEGLIGIBLE_STEPS = 2.0**-10  # a channel that moves its output by less than this may be stored without weights
SMALLEST = float(np.finfo(np.float32).tiny)


def place_integers(model: ir.Model, *, gain: bool = True) -> list[LayerDecision]:
    """gain: use the head room of the 8-bit container (E6); without, the weights stay b-bit codes."""
    graph = model.graph
    decisions = [_place(graph, node, gain) for node in list(graph) if is_op(node, *LINEAR)]
    clean(model)
    return decisions


def _place(graph: ir.Graph, node: ir.Node, with_gain: bool) -> LayerDecision:
    layer, bits = layer_of(node), int(weight_of(node).outputs[0].metadata_props["bits"])
    codes, scale = weight_codes(node)
    bias, input_scale, output = bias_of(node), input_scale_of(node), output_grid_of(node)
    step = output.scale if output else None
    gain = gain_of(node) if with_gain else 1
    axes = tuple(range(1, codes.ndim))
    reach = (
        np.abs(codes).sum(axis=axes).astype(np.float64) * CONTAINER_MAX * scale * input_scale
    )  # [C_out], largest |Σ w·x|
    dead = _dead_channels(layer, bias, reach, scale * input_scale / gain, step)
    dead |= ~codes.any(axis=axes) & (bias != 0)  # without weights any scale serves: take one that holds the bias
    codes[dead], scale = 0, np.where(dead, _live_scale(bias, input_scale, gain), scale)
    largest = np.abs(codes).sum(axis=axes) * gain * float(CONTAINER_MAX) + np.abs(bias) / (
        scale / gain * input_scale
    )  # [C_out], |accumulator|
    stored_scale = exact_scale(scale / gain, input_scale, output, largest + 2, bias=bias, gain=gain)
    unit = (np.float32(input_scale) * stored_scale).astype(np.float32)
    multiplier = unit if step is None else (unit / np.float32(step)).astype(np.float32)
    if not (stored_scale >= SMALLEST).all() or not (unit >= SMALLEST).all() or not (multiplier >= SMALLEST).all():
        raise QuantizationError(
            f"{layer}: a scale underflows float32 (smallest multiplier {float(multiplier.min()):.3g}); train the "
            "layer's scales again"
        )
    try:
        bias_codes = quantize_bias(bias, unit.astype(np.float64))
    except QuantizationError as error:
        raise QuantizationError(f"{layer}: {error}") from error
    container = _store_weight(graph, node, codes * gain, stored_scale)
    _store_bias(graph, node, layer, bias_codes, unit)
    rounding = np.abs(bias_codes * unit.astype(np.float64) - bias).max() / step if step else 0.0
    bound = int(
        (
            np.abs(codes.astype(np.int64) * gain).sum(axis=axes) * CONTAINER_MAX + np.abs(bias_codes.astype(np.int64))
        ).max()
    )
    if bound >= 2**31:
        raise QuantizationError(
            f"{layer}: its accumulator can reach {bound}, beyond int32: use fewer bits or fewer input channels"
        )
    scales = float(stored_scale.min()), float(stored_scale.max())
    return LayerDecision(
        name=layer,
        operator=node.op_type,
        bits=bits,
        scale=scales,
        gain=gain,
        container=container,
        bias_error_steps=float(rounding),
        accumulator=bound,
        dead_channels=int(dead.sum()),
    )


def _dead_channels(layer: str, bias: np.ndarray, reach: np.ndarray, unit: np.ndarray, step: float | None) -> np.ndarray:
    """Channels whose bias does not fit its unit because the weights are negligible beside it (a batch norm with γ near
    0).
    """
    with np.errstate(divide="ignore", over="ignore"):
        overflow = (np.abs(bias) / unit > 2**30) | (unit < SMALLEST)
    needed = overflow & (reach > NEGLIGIBLE_STEPS * (step if step is not None else np.abs(bias).max(initial=SMALLEST)))
    if needed.any():
        channel = int(np.argmax(needed))
        raise QuantizationError(
            f"{layer}: the bias of channel {channel} is {bias[channel]:.6g}, beyond int32 in units of "
            f"{unit[channel]:.3g}, "
            "and its weights still matter; retrain it"
        )
    return overflow


def _live_scale(bias: np.ndarray, input_scale: float, gain: int) -> np.ndarray:
    """For a channel without weights: the scale whose bias unit holds the bias with 2^-20 of relative rounding."""
    return np.maximum(np.abs(bias), 1e-20) * 2.0**-20 / input_scale * gain


def _store_weight(graph: ir.Graph, node: ir.Node, codes: np.ndarray, scale: np.ndarray) -> str:
    if np.abs(codes).max(initial=0) <= weight_limit(node):
        set_weight(node, graph, codes.astype(np.int8), scale, np.zeros(len(scale), np.int8))
        return "INT8"
    flipped = (
        codes.reshape(len(codes), -1).max(axis=1) > 127
    )  # E8: γ < 0 turned -128 into +128; such a channel's codes are -127 … 128
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


def input_scale_of(node: ir.Node) -> float:
    """S of the DequantizeLinear in front of a Conv or Gemm, as float32 holds it."""
    source = node.inputs[0].producer() if node.inputs[0] is not None else None
    if not is_op(source, "DequantizeLinear"):
        raise QuantizationError(f"{layer_of(node)}: nothing put the input of this layer onto a grid")
    assert source is not None
    return float(constant_of(source.inputs[1], layer_of(node)))


def output_grid_of(node: ir.Node) -> OutputGrid | None:
    """Of the QuantizeLinear behind a Conv or Gemm; None where the accumulator is the output."""
    readers = list(node.outputs[0].consumers())
    if len(readers) != 1 or not is_op(readers[0], "QuantizeLinear"):
        return None
    scale, zero_point = (constant_of(v, layer_of(node)) for v in readers[0].inputs[1:3])
    return OutputGrid(float(scale), int(zero_point))
