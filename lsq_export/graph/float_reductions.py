"""Float meanings of reductions, with torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from .read import attribute

Tensor = torch.Tensor


def _meaning(reduce: Callable[..., Tensor]) -> Callable[[ir.Node, list[Any]], Tensor]:
    """reduce(x, axes, keepdim=…), of the axes that the node has as an input or an attribute; all without any."""

    def meaning(node: ir.Node, inputs: list[Any]) -> Tensor:
        given = inputs[1].tolist() if len(inputs) > 1 and inputs[1] is not None else attribute(node, "axes")
        axes = range(inputs[0].dim()) if given is None else np.reshape(given, -1).tolist()
        return reduce(inputs[0], tuple(axes), keepdim=bool(attribute(node, "keepdims", 1)))

    return meaning


mean, total = _meaning(torch.mean), _meaning(torch.sum)
largest, smallest = _meaning(torch.amax), _meaning(torch.amin)
