"""batch_norm: a batch norm goes into the layer before it (E8).

    BatchNormalization(Conv(x, DequantizeLinear(q, s), b))
        =>  Conv(x, DequantizeLinear(sign(γ)·q, s·|γ|/σ), (b - μ)·γ/σ + β)

After a layer that is kept float, the factor goes into its float weights.

A batch norm that stands alone (after a sum, a pool, the input) is the same after a depthwise 1×1 convolution of weight
1: one code and one scale for each channel hold its factor exactly.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import fold_batch_norm
from lsq_export.graph.edit import clean, constant, insert, replace
from lsq_export.graph.kept_float import is_plain_float_layer
from lsq_export.graph.layers import bias_of, is_linear, scale_weight, set_bias, set_weight, weight_codes
from lsq_export.graph.read import attribute, constant_of, input_of, is_op, rank_of, single_consumer
from lsq_export.graph.uniform import Window, uniform_depthwise
from lsq_export.rewrite.contract.conditions import FROZEN_WEIGHTS, NO_BATCH_NORMS, by_statistics_of_batch
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless


def fold_batch_norms(model: ir.Model) -> None:
    graph = model.graph
    for node in list(graph):
        if is_op(node, "BatchNormalization") and not by_statistics_of_batch(node):
            _fold(graph, node)
    clean(model)


def _fold(graph: ir.Graph, node: ir.Node) -> None:
    x = node.inputs[0]
    assert x is not None
    gamma, beta, mean, variance = (
        constant_of(v, f"{node.name}: batch norm").astype(np.float64) for v in node.inputs[1:]
    )
    if not all(np.isfinite(v).all() for v in (gamma, beta, mean, variance)) or (variance < 0).any():
        raise QuantizationError(
            f"{node.name}: the batch norm's weights or running statistics are not finite; train the model again"
        )
    layer = x.producer()
    if layer is None or not is_linear(layer) or not single_consumer(x):
        layer, result = _identity_layer(graph, node, len(gamma))
    else:
        result = x
    epsilon = attribute(node, "epsilon", 1e-5)
    if is_plain_float_layer(layer):
        factor = gamma / np.sqrt(variance + epsilon)
        bias = (bias_of(layer) - mean) * factor + beta
        scale_weight(layer, graph, factor)
    else:
        codes, scale = weight_codes(layer)
        codes, scale, bias = fold_batch_norm(codes, scale, bias_of(layer), gamma, beta, mean, variance, epsilon)
        set_weight(layer, graph, codes, scale)
    set_bias(layer, graph, bias)
    result.shape = node.outputs[0].shape
    replace(node.outputs[0], result)
    graph.remove(node, safe=True)  # its input has one reader less: the next batch norm may go into the same layer


def _identity_layer(graph: ir.Graph, node: ir.Node, channels: int) -> tuple[ir.Node, ir.Value]:
    """A depthwise 1×1 convolution of weight 1 before the batch norm; [N, C] goes through [N, C, 1, 1]."""
    x, name = input_of(node), str(node.name)
    rank = rank_of(x)
    if rank not in (2, 4, 5):
        raise QuantizationError(f"{node.name}: a batch norm on a tensor of rank {rank} cannot be quantized")
    if rank == 2:
        shape = constant(graph, f"{name}.shape4", np.array([-1, channels, 1, 1]))
        x = insert(node, "Reshape", [x, shape], f"{name}.in4", shape=[None, channels, 1, 1])
    layer = uniform_depthwise(node, x, name, channels, window=Window.of_one(max(2, rank - 2)))
    y = layer.outputs[0]
    y.shape = x.shape
    if rank == 2:
        shape = constant(graph, f"{name}.shape2", np.array([-1, channels]))
        y = insert(node, "Reshape", [y, shape], f"{name}.out2", shape=node.outputs[0].shape)
    return layer, y


PASS = Pass(
    "fold_batch_norms",
    stateless(fold_batch_norms),
    Keeps.VALUES,
    requires=(FROZEN_WEIGHTS,),
    ensures=(NO_BATCH_NORMS, FROZEN_WEIGHTS),
)
