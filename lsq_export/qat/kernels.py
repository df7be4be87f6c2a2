"""The arithmetic of fake quantization, without autograd: values, and the gradients of LSQ+, by two kinds of kernels.

On the CPU a training step is bound by memory, and most of all by allocating it. So both directions run in blocks that
stay in the cache: the only large tensors made are the results. Fused kernels are faster still, three to four times:
torch.compile makes one loop of each direction. They need a C++ compiler (on a GPU Triton) and some 10 s, the first
time. Values, and gradients of x, are the same to the bit with both; the sums for s and b are added in another order.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from enum import Enum
from typing import Any, TypeAlias

import torch

from calib.errors import QuantizationError
from calib.grid import position, snap_

from .compiled_code import check_compiled_code
from .layout import along, blocks, column, flat, is_dense, join, same_layout

BLOCK = 1 << 17  # elements of a block: 0.5 MB a tensor in float32, of which four are in use at once
FUSED_FROM = 1 << 15  # elements: below, calling a fused kernel costs more than it saves
Sums: TypeAlias = "tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]"


class Kernels(Enum):
    """Which kernels a quantizer uses outside of torch.compile."""

    BLOCKS = "blocks"
    FUSED = "fused"


@functools.cache
def fused_kernels() -> tuple[Any, Any]:
    """`_values` and `_gradients`, compiled.

    Errors (QuantizationError): there is no working compiler; those of `check_compiled_code`.
    """
    check_compiled_code()
    kernels = torch.compile(_values, dynamic=True), torch.compile(_gradients, dynamic=True)
    x, s = torch.zeros(64), torch.ones(())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch's compiler about torch
            kernels[1](x, x, s, None, -8, 7, True, False), kernels[0](x, s, None, -8, 7)
    except Exception as error:  # what a missing compiler raises differs between versions of torch
        raise QuantizationError(
            f"fused kernels need a C++ compiler that torch.compile can use: {type(error).__name__}; train without them"
        ) from error
    return kernels


def values(
    x: torch.Tensor,
    s: torch.Tensor,
    b: torch.Tensor | None,
    qmin: int,
    qmax: int,
    kernels: Kernels = Kernels.BLOCKS,
) -> torch.Tensor:
    """x̂ on the trained grid (E1), without gradients. The arguments are those of `fake_quantize`."""
    if torch.compiler.is_compiling() or not is_dense(x):
        return _values(x, along(s, x), None if b is None else along(b, x), qmin, qmax)
    if kernels is Kernels.FUSED and x.numel() >= FUSED_FROM:
        fused, _ = fused_kernels()
        result: torch.Tensor = fused(flat(x, s), column(s), None if b is None else column(b), qmin, qmax)
        return result.as_strided(x.shape, x.stride())
    if x.numel() <= BLOCK or x.device.type != "cpu":
        return _values(x, along(s, x), None if b is None else along(b, x), qmin, qmax)
    y = torch.empty_like(x)
    for (x_part, y_part), s_part, b_part in blocks((x, y), s, b, BLOCK):
        y_part.copy_(_values(x_part, s_part, b_part, qmin, qmax))
    return y


def gradients(
    x: torch.Tensor,
    grad: torch.Tensor,
    s: torch.Tensor,
    b: torch.Tensor | None,
    qmin: int,
    qmax: int,
    needs: Sequence[bool] = (True, True),
    kernels: Kernels = Kernels.BLOCKS,
) -> Sums:
    """∂L/∂x and, where needed, the sums over what shares a grid for s and b, without g.

    There is one sum for each grid, but the sums do not have the shape of s. grad: ∂L/∂x̂, in the shape of x. needs:
    whether the sums for s and for b are needed. The other arguments are those of `fake_quantize`.
    """
    if torch.compiler.is_compiling() or not is_dense(x):
        return _gradients(x, grad, along(s, x), None if b is None else along(b, x), qmin, qmax, *needs)
    if not same_layout(grad, x):  # .sum() gives an expanded gradient, some operators one in another memory format
        grad = torch.empty_like(x, dtype=grad.dtype).copy_(grad)
    if kernels is Kernels.FUSED and x.numel() >= FUSED_FROM:
        _, fused = fused_kernels()
        state = column(s), None if b is None else column(b)
        flat_grad, *sums = fused(flat(x, s), flat(grad, s), *state, qmin, qmax, *needs)
        return flat_grad.as_strided(x.shape, x.stride()), *sums
    if x.numel() <= BLOCK or x.device.type != "cpu":
        return _gradients(x, grad, along(s, x), None if b is None else along(b, x), qmin, qmax, *needs)
    grad_x = torch.empty_like(x)
    parts = []
    for (x_part, grad_part, out), s_part, b_part in blocks((x, grad, grad_x), s, b, BLOCK):
        inside, *part = _gradients(x_part, grad_part, s_part, b_part, qmin, qmax, *needs)
        out.copy_(inside)
        parts.append(part)
    sum_s, sum_b = (join(list(sums), s) for sums in zip(*parts, strict=True))
    return grad_x, sum_s, sum_b


def _values(x: torch.Tensor, s: torch.Tensor, b: torch.Tensor | None, qmin: int, qmax: int) -> torch.Tensor:
    """x̂; s and b broadcast against x."""
    result: torch.Tensor = snap_(position(x.to(s.dtype), s, b), s, b, qmin, qmax).to(x.dtype)
    return result


def _gradients(
    x: torch.Tensor,
    grad: torch.Tensor,
    s: torch.Tensor,
    b: torch.Tensor | None,
    qmin: int,
    qmax: int,
    needs_s: bool,
    needs_b: bool,
) -> Sums:
    """The table of `fake_quantize`, computed in the type of s; s and b broadcast against x."""
    e = grad.to(s.dtype)
    v = position(x.to(s.dtype), s, b).clamp_(qmin, qmax)  # outside: exactly n or p
    # e where n < v < p, else 0; boolean masks are several times slower.
    h = torch.ops.aten.hardtanh_backward(e, v, qmin, qmax)
    sum_s = v.round().mul_(e).addcmul_(h, v, value=-1).sum_to_size(s.shape) if needs_s else None
    sum_b = (e - h).sum_to_size(s.shape) if needs_b else None
    return h.to(x.dtype), sum_s, sum_b
