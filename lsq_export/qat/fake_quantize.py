"""Fake quantization as one autograd function: the trained grid (E1) forward, the gradients of LSQ+ backward.

    v = (x - β) / s        x̂ = s · clamp(round(v), n, p) + β                     eq. 1-2 of arXiv:2004.09576

                    v <= n     n < v < p       v >= p
    ∂x̂/∂x             0            1             0                                straight-through
    ∂x̂/∂s             n       round(v) - v       p                                eq. 3
    ∂x̂/∂β             1            0             1                                eq. 4

The gradients of s and β are multiplied by g (LSQ, arXiv:1902.08153, part 2.2). With v clamped to n … p, e = ∂L/∂x̂, and
h = e where n < v < p, else 0, the table is ∂L/∂x = h, ∂L/∂s = g·Σ(e·round(v) - h·v), ∂L/∂β = g·Σ(e - h).

Backward keeps x (the tensor itself, no copy) and computes v again; no float copy of x is made in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from .kernels import Kernels, gradients, values


def fake_quantize(
    x: torch.Tensor,
    s: torch.Tensor,
    b: torch.Tensor | None,
    qmin: int,
    qmax: int,
    g: float,
    kernels: Kernels = Kernels.BLOCKS,
) -> torch.Tensor:
    """x̂ in the shape, type and memory format of x.

    x: any shape, a float type.
    s, b: shape [] (one grid) or [C] (one for each index of axis 0 of x), in the type to compute in: float32, or float64
    for float64 x. b None: no offset. That s > 0 is the caller's duty.
    g: factor on the gradients of s and b.
    """
    if not torch.is_grad_enabled():
        return values(x, s, b, qmin, qmax, kernels)
    apply: Callable[..., torch.Tensor] = _FakeQuantize.apply
    return apply(x, s, b, qmin, qmax, g, kernels)


class Recipe(NamedTuple):
    """Arguments of `values` that make a tensor again."""

    x: torch.Tensor
    s: torch.Tensor
    b: torch.Tensor | None
    qmin: int
    qmax: int
    kernels: Kernels


def recipe_of(tensor: torch.Tensor) -> Recipe | None:
    """How to make this tensor again, if it is what `fake_quantize` returned; read from its place in the autograd graph.

    It holds nothing that the graph does not hold.
    """
    node: Any = tensor.grad_fn
    kernels = getattr(node, "kernels", None)
    if not isinstance(kernels, Kernels):
        return None
    x, s, b = node.saved_tensors
    return Recipe(x.detach(), s.detach(), None if b is None else b.detach(), node.qmin, node.qmax, kernels)


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        s: torch.Tensor,
        b: torch.Tensor | None,
        qmin: int,
        qmax: int,
        g: float,
        kernels: Kernels,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, s, b)
        ctx.qmin, ctx.qmax, ctx.g, ctx.kernels = qmin, qmax, g, kernels
        return values(x, s, b, qmin, qmax, kernels)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, s, b = ctx.saved_tensors
        needs_x, *needs = ctx.needs_input_grad[:3]
        grad_x, grad_s, grad_b = gradients(x, grads[0], s, b, ctx.qmin, ctx.qmax, needs, ctx.kernels)
        return (
            grad_x if needs_x else None,
            None if grad_s is None else grad_s.reshape(s.shape) * ctx.g,
            None if grad_b is None else grad_b.reshape(s.shape) * ctx.g,
            *(None, None, None, None),
        )
