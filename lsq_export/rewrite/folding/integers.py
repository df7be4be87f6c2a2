"""integers: weights and biases of every Conv and Gemm go into their integer containers (E6, E7).

    DequantizeLinear(q; s)              =>  DequantizeLinear(g·q as INT8; s/g)          |g·q| <= 64, 127 if depthwise
    DequantizeLinear(q; s), |q| > 64    =>  DequantizeLinear(q as INT8; s)      where no two products can saturate (E7)
                                        =>  DequantizeLinear(q + Z as UINT8; s, Z)  elsewhere, Z = 128 if that fits
    b                                   =>  DequantizeLinear(round(b / u) as INT32; u)  u = S·s/g

A channel whose sums would not fit int32 gets a smaller gain or coarser weights (E6a, E6b, calib/rounding/sums.py). The
folded model is the graph after this pass: it computes with these weights and the rounded biases.
"""

from __future__ import annotations

from dataclasses import replace as replace_fields

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import CONTAINER_MAX, quantize_bias
from calib.folding.saturation import saturating
from calib.rounding.requantization import exact_scale
from calib.rounding.sums import SMALLEST, Layer, Sums, fit_sums
from lsq_export.graph.edit import clean, constant, insert
from lsq_export.graph.grids import grid_of_codes
from lsq_export.graph.layers import (
    bias_of,
    gain_of,
    input_scale_of,
    input_zero_point_of,
    layer_of,
    output_grid_of,
    set_weight,
    weight_codes,
    weight_limit,
    weight_of,
)
from lsq_export.graph.notes import BITS
from lsq_export.graph.operators import LAYERS, MOVES, RECTIFIERS
from lsq_export.graph.read import array_of, is_op, producer_of
from lsq_export.rewrite.contract.conditions import INTEGER_BIASES, NO_MARKERS
from lsq_export.rewrite.contract.decisions import LayerDecision
from lsq_export.rewrite.contract.passes import Keeps, Pass, State

from .reach import reach

WEIGHT_MAX = 127  # of INT8; -128 is in it
HALF = 128  # zero point of UINT8


def place_integers(model: ir.Model, *, gain: bool = True) -> list[LayerDecision]:
    """gain: use the head room of the 8-bit container (E6); without, the weights stay b-bit codes."""
    graph = model.graph
    decisions = [_place(graph, node, gain) for node in list(graph) if is_op(node, *LAYERS)]
    clean(model)
    return decisions


def _place(graph: ir.Graph, node: ir.Node, with_gain: bool) -> LayerDecision:
    layer = _layer(node, gain_of(node) if with_gain else 1)
    sums = fit_sums(layer)
    scale, unit = _stored_scales(layer, sums, layer_of(node))
    try:
        bias_codes = quantize_bias(sums.bias, unit.astype(np.float64))
    except QuantizationError as error:
        raise QuantizationError(f"{layer_of(node)}: {error}") from error
    bits = BITS.read(weight_of(node).outputs[0])
    container = _store_weight(graph, node, sums.codes, scale)
    _store_bias(graph, node, layer_of(node), bias_codes, unit)
    moved = np.abs(bias_codes * unit.astype(np.float64) - sums.bias)
    bound = int((sums.magnitudes() * CONTAINER_MAX + np.abs(bias_codes.astype(np.int64))).max())
    if bound >= 2**31:
        raise QuantizationError(
            f"{layer_of(node)}: its accumulator can reach {bound}, beyond int32; please report this model"
        )
    return LayerDecision(
        name=layer_of(node),
        operator=node.op_type,
        bits=bits,
        scale=(float(scale.min()), float(scale.max())),
        gain=layer.gain,
        container=container,
        bias_error_steps=float(moved.max() / layer.output.scale) if layer.output else _steps(node.outputs[0], moved),
        accumulator=bound,
        dead_channels=int((sums.magnitudes() == 0).sum()),
        lowered_channels=int(((sums.gain < layer.gain) & (sums.magnitudes() > 0) & ~sums.coarse).sum()),
        coarse_channels=int(sums.coarse.sum()),
        coarse_steps=float(sums.effect.max()),
    )


def _steps(value: ir.Value, moved: np.ndarray) -> float:
    """How far channels of accumulators moved, [C_out], in steps of the grids after float functions that read them.

    The slopes of these are about one. Where norms or sums read them, that is not known: zero.
    """
    found = 0.0
    for reader in value.consumers():
        if is_op(reader, "QuantizeLinear"):
            found = max(found, float(moved.max(initial=0.0)) / grid_of_codes(reader)[0])
        elif reader.op_type in (*MOVES, *RECTIFIERS):
            found = max(found, _steps(reader.outputs[0], moved))
        elif reader.op_type == "Mul" and (factor := array_of(reader.inputs[1])) is not None:
            largest = moved * np.abs(factor) if factor.shape == moved.shape else moved.max(initial=0) * np.abs(factor)
            found = max(found, _steps(reader.outputs[0], largest))
    return found


def _layer(node: ir.Node, gain: int) -> Layer:
    codes, scale = weight_codes(node)
    return Layer(
        codes=codes,
        scale=scale,
        bias=bias_of(node),
        gain=gain,
        input_scale=input_scale_of(node),
        input_zero_point=input_zero_point_of(node),
        output=output_grid_of(node),
    )


def _stored_scales(layer: Layer, sums: Sums, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(s_w, S·s_w), float32 [C_out] each: of the weights and of the biases in the file (E6, E9)."""
    products = sums.magnitudes() * CONTAINER_MAX
    refused = QuantizationError(
        f"{name}: a scale leaves float32 (of its input: {layer.input_scale:.3g}, of its weight: "
        f"{sums.scale.min():.3g} … {sums.scale.max():.3g}); train the layer's scales again"
    )
    if not (sums.scale < np.finfo(np.float32).max).all():
        raise refused
    stored = exact_scale(
        sums.scale,
        layer.input_scale,
        layer.output,
        products + np.abs(sums.bias) / (sums.scale * layer.input_scale) + 2,
        bias=sums.bias,
        gain=sums.gain,
        beside=products,
    )
    unit = (np.float32(layer.input_scale) * stored).astype(np.float32)
    multiplier = unit if layer.output is None else (unit / np.float32(layer.output.scale)).astype(np.float32)
    if not all((values >= SMALLEST).all() for values in (stored, unit, multiplier)):
        raise refused
    return stored, unit


def _store_weight(graph: ir.Graph, node: ir.Node, codes: np.ndarray, scale: np.ndarray) -> str:
    if np.abs(codes).max(initial=0) <= weight_limit(node) or _never_saturates(node, codes):
        set_weight(node, graph, codes.astype(np.int8), scale, np.zeros(len(scale), np.int8))
        return "INT8"
    zero_point = _zero_points(codes.reshape(len(codes), -1))
    shifted = codes.astype(np.int16) + zero_point.astype(np.int16).reshape(-1, *[1] * (codes.ndim - 1))
    set_weight(node, graph, shifted.astype(np.uint8), scale, zero_point)
    return "UINT8"


def _zero_points(rows: np.ndarray) -> np.ndarray:
    """uint8 [C_out]: 128 wherever UINT8 then holds the codes, [C_out, …].

    E8: γ < 0 turned -128 into +128; such a channel's codes are -127 … 128. Those of other tools' UINT8 weights reach
    from -255 to 255 at most: one number for all channels, if it does.
    """
    low, high = -rows.min(axis=1, initial=0), 255 - rows.max(axis=1, initial=0)
    if np.abs(rows).max(initial=0) > HALF and low.max() <= high.min():
        low, high = np.full_like(low, low.max()), np.full_like(high, high.min())
    return np.asarray(np.clip(HALF, low, high), np.uint8)


def _never_saturates(node: ir.Node, codes: np.ndarray) -> bool:
    """INT8 holds the weights, and no kernel can saturate on them (calib.folding.saturation).

    Its inputs are the codes that reach it, and the zero point, with which kernels pad.
    """
    source = producer_of(node.inputs[0])
    if source is None or codes.max() > WEIGHT_MAX or codes.min() < -WEIGHT_MAX - 1:
        return False
    largest = max(int(reach(source.inputs[0])[1]), input_zero_point_of(node))
    return saturating(codes.reshape(len(codes), -1), largest) is None


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
        for d in place_integers(model, gain=state.fold in ("strided", "symmetric"))
    ]


PASS = Pass("place_integers", _run, Keeps.CODES, requires=(NO_MARKERS,), ensures=(INTEGER_BIASES,))
