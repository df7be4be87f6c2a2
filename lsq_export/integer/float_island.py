"""Float islands: the one place where a `qoperator` file computes in floating point.

    QuantizeLinear(f(DequantizeLinear(x))),   f in float64, rounded once to float32

A runtime's float32 function may miss this by a few units in the last place. onnx's ReferenceEvaluator computes f; torch
computes the error function and Gelu, for which onnx has slow loops. Clip is among the functions of shape.py.
"""

from __future__ import annotations

import numpy as np
import torch
from onnx.reference import ReferenceEvaluator

from .conv import batch_first, patches
from .node import Array, Inputs, Node, operator, optional, required
from .window import window

ISLANDS = (
    *("Celu", "Cos", "Div", "Elu", "Exp", "LayerNormalization", "Log", "LogSoftmax", "Mish", "PRelu", "Pow"),
    *("Reciprocal", "Selu", "Sin", "Softmax", "Softplus", "Softsign", "Sqrt", "Sum"),
)
KEPT_FLOAT = ("Gemm", "MatMul", "Relu")  # layers that are kept float, and what lies between them; Conv is below


@operator(*ISLANDS, *KEPT_FLOAT)
def island(node: Node, x: Inputs) -> list[Array]:
    """One of ISLANDS or KEPT_FLOAT, float32 in and out."""
    values = {name: _float64(node, x, i) for i, name in enumerate(node.inputs) if name}
    evaluator = ReferenceEvaluator(node.proto, opsets={"": node.opset})
    with np.errstate(all="ignore"):  # infinities saturate
        return [np.asarray(y).astype(np.float32) for y in list(evaluator.run(None, values))[:1]]


@operator("Conv")
def float_conv(node: Node, x: Inputs) -> list[Array]:
    """A convolution that is kept float."""
    values, weight = _float64(node, x, 0), _float64(node, x, 1)
    groups = int(node.attributes.get("group", 1))
    geometry = window(node, values, tuple(weight.shape[2:]))
    matrix = weight.reshape(groups, len(weight) // groups, -1)
    total = (matrix @ patches(values, 0, geometry, groups, np.float64)).reshape(len(weight), -1, *geometry.output)
    if optional(x, 2) is not None:
        total += _float64(node, x, 2).reshape(-1, *[1] * (total.ndim - 1))
    return [batch_first([total.astype(np.float32)])]


@operator("Erf")
def erf(node: Node, x: Inputs) -> list[Array]:
    """The error function."""
    return [torch.from_numpy(_float64(node, x, 0)).erf().numpy().astype(np.float32)]


@operator("Gelu")
def gelu(node: Node, x: Inputs) -> list[Array]:
    """x·Φ(x), or its approximation by tanh."""
    approximate = node.attributes.get("approximate", b"none").decode()
    values = torch.from_numpy(_float64(node, x, 0))
    return [torch.nn.functional.gelu(values, approximate=approximate).numpy().astype(np.float32)]


def _float64(node: Node, x: Inputs, index: int) -> Array:
    value = required(node, x, index)
    if value.dtype != np.float32:
        raise node.error(f"its input {node.inputs[index]} is {value.dtype}: a float island computes in float32")
    return value.astype(np.float64)
