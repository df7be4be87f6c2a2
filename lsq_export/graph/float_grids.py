"""Float meanings of the operators that put values onto grids, with torch: trained grids (E1) and ONNX's (E2).

Codes are held in the floating type, which is exact: they have at most 32 bits.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch

from calib.grid import codes_, position, snap_, values_

from .read import attribute

Tensor = torch.Tensor
CODE_LIMITS = {
    "UINT8": (0, 255),
    "INT8": (-128, 127),
    "UINT4": (0, 15),
    "INT4": (-8, 7),
    "UINT2": (0, 3),
    "INT2": (-2, 1),
}


def along_axis(node: ir.Node, parameter: Tensor, rank: int) -> Tensor:
    """A scale, offset or zero point [] or [C], shaped to go with a tensor of that rank."""
    if parameter.dim() == 0 or rank == 0:
        return parameter
    axis = attribute(node, "axis", 1) % rank
    return parameter.reshape([-1 if i == axis else 1 for i in range(rank)])


def fake_quantize(node: ir.Node, inputs: list[Any]) -> Tensor:
    """A marker. Its axis: one scale for each output channel of a weight, one offset for each channel after a merge.

    A weight is divided in float32, as training did it, so that its codes are the trained ones to the last tie.
    """
    if len(inputs) == 1:  # an edge that is not calibrated yet
        return torch.as_tensor(inputs[0])
    x, qmin, qmax = inputs[0], attribute(node, "qmin"), attribute(node, "qmax")
    scale, offset = (along_axis(node, v, x.dim()) for v in inputs[1:])
    if attribute(node, "kind") == "weight":
        codes = codes_(position(x.float(), scale.float(), offset.float()), qmin, qmax)
        return torch.as_tensor(codes.to(x.dtype, copy=True).mul_(scale).add_(offset))
    return torch.as_tensor(snap_(position(x, scale, offset), scale, offset, qmin, qmax))


def quantize_linear(node: ir.Node, inputs: list[Any]) -> Tensor:
    """The network's input is divided in float32, as ONNX does it: pixels on ties get the same code everywhere."""
    x, scale, zero_point = inputs
    given, stored = node.inputs[0], node.inputs[2]
    assert given is not None and stored is not None and stored.dtype is not None
    low, high = CODE_LIMITS[stored.dtype.name]
    division = torch.float32 if given.is_graph_input() else x.dtype
    v = position(x.to(division), along_axis(node, scale.to(division), x.dim()), None).to(x.dtype)
    return torch.as_tensor(codes_(v, low, high, along_axis(node, zero_point, x.dim())))


def dequantize_linear(node: ir.Node, inputs: list[Any]) -> Tensor:
    c, scale = inputs[:2]
    zero_point = along_axis(node, inputs[2], c.dim()) if len(inputs) > 2 and inputs[2] is not None else 0
    return torch.as_tensor(values_(c, along_axis(node, scale, c.dim()), zero_point))
