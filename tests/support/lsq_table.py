"""The table of LSQ+ (arXiv:2004.09576, eq. 1-4), element by element in Python floats, and samples to try it on."""

from __future__ import annotations

import torch


def oracle(x: float, s: float, b: float, n: int, p: int) -> tuple[float, float, float, float]:
    """x̂, ∂x̂/∂x, ∂x̂/∂s and ∂x̂/∂β of one element. Values exactly on n and p count as clipped.

    Python's round is half-to-even.
    """
    v = (x - b) / s
    if v <= n:
        return s * n + b, 0.0, n, 1.0
    if v >= p:
        return s * p + b, 0.0, p, 1.0
    return s * round(v) + b, 1.0, round(v) - v, 0.0


def samples(shape: tuple[int, ...], s: float, b: float, n: int, p: int) -> torch.Tensor:
    """Float64 values of both signs: beyond the range, exactly on n and p, and on ties.

    With s and b powers of two times small integers, all of this is exact.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * s * (p - n) * 0.4 + b + s * (n + p) / 2
    middle = (n + p) // 2
    ends = [n, p, n - 0.5, n + 0.5, p - 0.5, p + 0.5, n - 3, p + 3]
    special = [*ends, middle + 0.5, middle + 1.5, 1.5, 2.5, -0.5, 0.5]
    x.view(-1)[: len(special)] = torch.tensor(special, dtype=torch.float64) * s + b
    return x
