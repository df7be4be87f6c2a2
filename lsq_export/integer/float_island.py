"""Float islands: the one place where a `qoperator` file computes in floating point.

    QuantizeLinear(f(DequantizeLinear(x))),   f in float64, rounded once to float32

A runtime's float32 function may miss this by a few units in the last place. onnx's ReferenceEvaluator computes f; torch
computes the error function and Gelu, for which onnx has slow loops. Layers that are kept float: kept_float.py.
"""

from __future__ import annotations

import numpy as np
from onnx.reference import ReferenceEvaluator

from .node import Array, Inputs, Node, float64, operator

ISLANDS = (
    *("Celu", "Cos", "Div", "Elu", "Exp", "LayerNormalization", "Log", "LogSoftmax", "Mish", "PRelu", "Pow"),
    *("Reciprocal", "Selu", "Sin", "Softmax", "Softplus", "Softsign", "Sqrt", "Sum"),
)


@operator(*ISLANDS)
def island(node: Node, x: Inputs) -> list[Array]:
    """One of ISLANDS, float32 in and out."""
    values = {name: float64(node, x, i) for i, name in enumerate(node.inputs) if name}
    evaluator = ReferenceEvaluator(node.proto, opsets={"": node.opset})
    with np.errstate(all="ignore"):  # infinities saturate
        return [np.asarray(y).astype(np.float32) for y in list(evaluator.run(None, values))[:1]]


@operator("Erf")
def erf(node: Node, x: Inputs) -> list[Array]:
    """The error function."""
    import torch  # takes seconds, and few files have these operators

    return [torch.from_numpy(float64(node, x, 0)).erf().numpy().astype(np.float32)]


@operator("Gelu")
def gelu(node: Node, x: Inputs) -> list[Array]:
    """x·Φ(x), or its approximation by tanh."""
    import torch

    approximate = node.attributes.get("approximate", b"none").decode()
    values = torch.from_numpy(float64(node, x, 0))
    return [torch.nn.functional.gelu(values, approximate=approximate).numpy().astype(np.float32)]
