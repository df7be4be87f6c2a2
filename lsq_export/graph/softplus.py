"""Softplus as the operator of ONNX; torch's exporter adds Greater and Where, through which large values pass."""

from __future__ import annotations

from typing import Any

from onnxscript import opset18 as op

from calib.errors import QuantizationError

ENOUGH = 14.0  # from there on, log(1 + exp(x)) is x, but for one rounding of float32


def softplus(self: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """What `torch.onnx.export` makes of torch's softplus: log(1 + exp(beta * x)) / beta.

    Errors (QuantizationError): a threshold from which on torch takes x, and that differs.
    """
    if threshold < ENOUGH:
        raise QuantizationError(
            f"a Softplus with threshold={threshold:g} has no integer form here; use {ENOUGH:g} or more (torch's is 20)"
        )
    if beta == 1.0:
        return op.Softplus(self)
    factor = op.Constant(value_float=float(beta))
    return op.Div(op.Softplus(op.Mul(self, factor)), factor)
