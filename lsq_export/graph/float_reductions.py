"""Float meanings of reductions, with torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from .read import attribute

Tensor = torch.Tensor


def _over(node: ir.Node, inputs: list[Any]) -> tuple[Tensor, tuple[int, ...], bool]:
    """(x, axes, whether they stay as axes of one element)."""
    given = inputs[1].tolist() if len(inputs) > 1 and inputs[1] is not None else attribute(node, "axes")
    axes = range(inputs[0].dim()) if given is None else np.reshape(given, -1).tolist()
    return inputs[0], tuple(axes), bool(attribute(node, "keepdims", 1))


def mean(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, axes, keep = _over(node, inputs)
    return x.mean(axes, keepdim=keep)


def total(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, axes, keep = _over(node, inputs)
    return x.sum(axes, keepdim=keep)


def largest(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, axes, keep = _over(node, inputs)
    return x.amax(axes, keepdim=keep)


def smallest(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, axes, keep = _over(node, inputs)
    return x.amin(axes, keepdim=keep)
