"""Batch norms as the operator of ONNX, where they are not decomposed; torch's exporter has no form for them then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18 as op


def whole_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """{operator of torch: what the exporter makes of it}"""
    return {torch.ops.aten.batch_norm.default: batch_norm}


def batch_norm(input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, *settings: Any) -> Any:
    """In eval mode: with statistics of the training. settings: training, momentum, eps, cudnn_enabled."""
    _, momentum, eps, _ = settings
    channels = int(input.shape[1])
    scale = _filled(1.0, channels) if weight is None else weight
    shift = _filled(0.0, channels) if bias is None else bias
    return op.BatchNormalization(input, scale, shift, running_mean, running_var, epsilon=eps, momentum=1.0 - momentum)


def _filled(value: float, count: int) -> Any:
    return op.Constant(value_floats=[value] * count)
