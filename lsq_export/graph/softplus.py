"""Softplus as the operator of ONNX; torch's exporter adds Greater and Where, through which large values pass."""

from __future__ import annotations

from typing import Any

from onnxscript import opset18 as op

ENOUGH = 14.0  # from there on, log(1 + exp(x)) is x, but for one rounding of float32


def softplus(self: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """What `torch.onnx.export` makes of torch's softplus: log(1 + exp(beta * x)) / beta.

    Where beta * x is above a threshold that shows, it is x, as in torch.
    """
    factor = op.Constant(value_float=float(beta))
    scaled = self if beta == 1.0 else op.Mul(self, factor)
    y = op.Softplus(scaled) if beta == 1.0 else op.Div(op.Softplus(scaled), factor)
    if threshold >= ENOUGH:
        return y
    return op.Where(op.Greater(scaled, op.Constant(value_float=float(threshold))), self, y)
