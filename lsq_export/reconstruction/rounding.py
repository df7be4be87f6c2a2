"""A weight whose rounding is learned: each element goes to the code below it or to the one above.

    w = s·(⌊W/s⌋ + r),    r = 1 where v > 1/2, else 0;  v = W/s - ⌊W/s⌋ at first

AdaRound (arXiv:2004.10568) pushes a soft r to 0 or 1 over thousands of steps. Here r is 0 or 1 in every step, and
gradients go straight through to v: dozens of steps are enough, and what is learned on is what remains.
"""

from __future__ import annotations

from typing import Any

import torch

from lsq_export.qat.quantizer import Quantizer

HALF = 0.5


class LearnedWeight:
    """weight: float, output channels first. quantizer: of the weight, with its grid; its scale stays.

    share: v, where the float weight lies between the codes below and above it; beyond the grid both are its end.
    """

    def __init__(self, weight: torch.Tensor, quantizer: Quantizer) -> None:
        scale = quantizer.scale.detach().cpu()
        scale = scale.reshape([-1, *[1] * (weight.dim() - 1)]) if scale.dim() else scale
        places = weight / scale
        codes = places.floor()
        self.share = (places - codes).requires_grad_()
        low, high = quantizer.qmin, quantizer.qmax
        self._below, self._above = codes.clamp(low, high) * scale, (codes + 1).clamp(low, high) * scale
        self._settled: torch.Tensor | None = None

    def value(self) -> torch.Tensor:
        """The weight on its grid."""
        if self._settled is not None:
            return self._settled
        return torch.as_tensor(_Rounded.apply(self.share, self._below, self._above))  # type: ignore[no-untyped-call]

    def settle(self) -> None:
        """Nothing more is learned, and only the weight is held."""
        with torch.no_grad():
            self._settled = self.value()
        del self.share, self._below, self._above


class _Rounded(torch.autograd.Function):
    """The nearer of the two; backward as if it were below + v·(above - below)."""

    @staticmethod
    def forward(ctx: Any, share: torch.Tensor, below: torch.Tensor, above: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(below, above)
        return torch.where(share > HALF, above, below)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        below, above = ctx.saved_tensors
        return (above - below).mul_(grads[0]), None, None
