"""Batch norms and flattening in fewest operators, where torch's exporter has nothing to decompose:

batch_norm(x; γ, β, μ, σ²)   =>   BatchNormalization(x; …)   the exporter adds what nobody reads
flatten(x, 1)                =>   Reshape(x, [0, C])         onnxscript gives two of these one name for their sizes
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from onnxscript import opset18 as op


def whole_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """{operator of torch: what the exporter makes of it}"""
    return {torch.ops.aten.batch_norm.default: batch_norm, torch.ops.aten.flatten.using_ints: flatten}


def batch_norm(input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, *settings: Any) -> Any:
    """In eval mode: with statistics of the training. settings: training, momentum, eps, cudnn_enabled."""
    _, momentum, eps, _ = settings
    channels = [int(input.shape[1])]
    scale = _filled(1.0, channels) if weight is None else weight
    shift = _filled(0.0, channels) if bias is None else bias
    return op.BatchNormalization(input, scale, shift, running_mean, running_var, epsilon=eps, momentum=1.0 - momentum)


def _filled(value: float, shape: list[int]) -> Any:
    return op.Constant(value_floats=[value] * shape[0])


def flatten(self: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Of an input whose sizes are known, but for the first one."""
    sizes = list(self.shape)
    if not sizes:
        one: Any = op.Constant(value_ints=[1])
        return op.Reshape(self, one)
    start, end = start_dim % len(sizes), end_dim % len(sizes)
    together = prod(map(int, sizes[start : end + 1])) if start else -1
    shape: Any = op.Constant(value_ints=[0] * start + [together] + [int(size) for size in sizes[end + 1 :]])
    return op.Reshape(self, shape)
