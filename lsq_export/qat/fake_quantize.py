"""Fake quantization as one autograd function: E1 forward, the gradients of LSQ+ (arXiv:2004.09576) backward, and no
float copy in between.

    v = (x - β) / s        x̂ = s · clamp(round(v), n, p) + β                     eq. 1-2

                    v <= n     n < v < p       v >= p
    ∂x̂/∂x             0            1             0                                straight-through
    ∂x̂/∂s             n       round(v) - v       p                                eq. 3
    ∂x̂/∂β             1            0             1                                eq. 4

The gradients of s and β are multiplied by g (LSQ, arXiv:1902.08153, part 2.2). With v clamped to n … p, e = ∂L/∂x̂, and
h = e where n < v < p, else 0, the table is ∂L/∂x = h, ∂L/∂s = g·Σ(e·round(v) - h·v), ∂L/∂β = g·Σ(e - h).

Backward keeps x (the tensor itself, no copy) and computes v again. On the CPU both directions run in blocks that stay
in the cache, for there a step is bound by memory, and most of all by getting new memory: the only large tensors made
are the results. `fuse()` has torch.compile make one loop of each direction, three to four times faster than blocks; it
needs a C++ compiler (on a GPU Triton) and some 10 s, the first time."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch

from calib.errors import QuantizationError
from calib.grid import position, snap_

BLOCK = 1 << 17  # elements of a block: 0.5 MB a tensor in float32, of which four are in use at once
FUSED_FROM = 1 << 15  # elements: below, calling a fused kernel costs more than it saves
Sums: TypeAlias = "tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]"


def fake_quantize(
    x: torch.Tensor, s: torch.Tensor, b: torch.Tensor | None, qmin: int, qmax: int, g: float
) -> torch.Tensor:
    """x̂ in the shape, type and memory format of x.

    x: any shape, float type. s, b: shape [] (one grid) or [C] (one for each index of axis 0 of x), in the type to
    compute in: float32, or float64
    for float64 x. b None: no offset. g: factor on the gradients of s and b. That s > 0 is the caller's duty.
    """
    result: torch.Tensor = _FakeQuantize.apply(x, s, b, qmin, qmax, g)
    if not torch.compiler.is_compiling() and result.requires_grad:
        result.__dict__[_RECIPE] = x.detach(), s.detach(), None if b is None else b.detach(), qmin, qmax
    return result


def recipe_of(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, int, int] | None:
    """The arguments of `values` that give this tensor, if `fake_quantize` made it."""
    return tensor.__dict__.get(_RECIPE)


_RECIPE = "_fake_quantize_recipe"  # attribute of a result


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, s: torch.Tensor, b: torch.Tensor | None, qmin: int, qmax: int, g: float
    ) -> torch.Tensor:
        ctx.save_for_backward(x, s, b)
        ctx.qmin, ctx.qmax, ctx.g = qmin, qmax, g
        return values(x, s, b, qmin, qmax)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, s, b = ctx.saved_tensors
        needs_x, *needs = ctx.needs_input_grad[:3]
        grad_x, grad_s, grad_b = gradients(x, grads[0], s, b, ctx.qmin, ctx.qmax, needs)
        return (
            grad_x if needs_x else None,
            None if grad_s is None else grad_s.reshape(s.shape) * ctx.g,
            None if grad_b is None else grad_b.reshape(s.shape) * ctx.g,
            *(None, None, None),
        )


def fuse(on: bool = True) -> None:
    """Whether layers outside of torch.compile use fused kernels, in this process from now on. Values, and gradients of
    x, are the same to the bit; the sums for s and b are added in another order.

    Errors (QuantizationError): there is no working compiler.
    """
    global _fused
    _fused = _compiled() if on else None


@contextmanager
def fused(on: bool = True) -> Iterator[None]:
    """`fuse()` in a block; on=False: as it is outside. Errors: those of `fuse`, before the block begins."""
    global _fused
    before = _fused
    if on:
        fuse()
    try:
        yield
    finally:
        _fused = before


@functools.cache
def _compiled() -> tuple[Any, Any]:
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


def values(x: torch.Tensor, s: torch.Tensor, b: torch.Tensor | None, qmin: int, qmax: int) -> torch.Tensor:
    """E1: x̂, without gradients. Arguments of `fake_quantize`."""
    if torch.compiler.is_compiling() or not _dense(x):
        return _values(x, _along(s, x), None if b is None else _along(b, x), qmin, qmax)
    if _fused is not None and x.numel() >= FUSED_FROM:
        return _fused[0](_flat(x, s), _column(s), None if b is None else _column(b), qmin, qmax).as_strided(
            x.shape, x.stride()
        )
    if x.numel() <= BLOCK or x.device.type != "cpu":
        return _values(x, _along(s, x), None if b is None else _along(b, x), qmin, qmax)
    y = torch.empty_like(x)
    for (x_part, y_part), s_part, b_part in _blocks((x, y), s, b):
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
) -> Sums:
    """∂L/∂x and, where needed, the sums over what shares a grid for s and b (one number a grid, shapes not those of s),
    without g.

    grad: ∂L/∂x̂, in the shape of x. The other arguments are those of `fake_quantize`.
    """
    if torch.compiler.is_compiling() or not _dense(x):
        return _gradients(x, grad, _along(s, x), None if b is None else _along(b, x), qmin, qmax, *needs)
    if not _same_layout(grad, x):  # .sum() gives an expanded gradient, some operators one in another memory format
        grad = torch.empty_like(x, dtype=grad.dtype).copy_(grad)
    if _fused is not None and x.numel() >= FUSED_FROM:
        flat, *sums = _fused[1](
            _flat(x, s), _flat(grad, s), _column(s), None if b is None else _column(b), qmin, qmax, *needs
        )
        return flat.as_strided(x.shape, x.stride()), *sums
    if x.numel() <= BLOCK or x.device.type != "cpu":
        return _gradients(x, grad, _along(s, x), None if b is None else _along(b, x), qmin, qmax, *needs)
    grad_x = torch.empty_like(x)
    parts = []
    for (x_part, grad_part, out), s_part, b_part in _blocks((x, grad, grad_x), s, b):
        inside, *part = _gradients(x_part, grad_part, s_part, b_part, qmin, qmax, *needs)
        out.copy_(inside)
        parts.append(part)
    sum_s, sum_b = (_join(list(column), s) for column in zip(*parts, strict=True))
    return grad_x, sum_s, sum_b


_fused: tuple[Any, Any] | None = None  # _values and _gradients, compiled


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
    """The table above, computed in the type of s; s and b broadcast against x."""
    e = grad.to(s.dtype)
    v = position(x.to(s.dtype), s, b).clamp_(qmin, qmax)  # outside: exactly n or p
    h = torch.ops.aten.hardtanh_backward(
        e, v, qmin, qmax
    )  # e where n < v < p, else 0; boolean masks are several times slower
    sum_s = v.round().mul_(e).addcmul_(h, v, value=-1).sum_to_size(s.shape) if needs_s else None
    sum_b = (e - h).sum_to_size(s.shape) if needs_b else None
    return h.to(x.dtype), sum_s, sum_b


def _along(state: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """[C] -> [C, 1, …], so that it broadcasts along axis 0 of x."""
    return state if state.dim() == 0 else state.view(-1, *[1] * (x.dim() - 1))


def _dense(x: torch.Tensor) -> bool:
    """No gaps in memory, and axis 0 is the outermost."""
    return x.is_contiguous() or _channels_last(x)


def _channels_last(x: torch.Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _same_layout(y: torch.Tensor, x: torch.Tensor) -> bool:
    return y.is_contiguous() if x.is_contiguous() else _channels_last(y)


def _flat(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """A dense x in the order of memory: [elements] with one grid, [C, elements of a channel] with one a channel."""
    size = x.numel()
    shape = (size,) if s.dim() == 0 else (x.shape[0], size // x.shape[0])
    return x.detach().as_strided(shape, (1,) if s.dim() == 0 else (shape[-1], 1))


def _column(state: torch.Tensor) -> torch.Tensor:
    return state.detach() if state.dim() == 0 else state.detach().view(-1, 1)


def _blocks(
    tensors: Sequence[torch.Tensor], s: torch.Tensor, b: torch.Tensor | None
) -> Iterator[tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor | None]]:
    """(views of one block of each tensor, s, b of the block).

    One grid: [elements] and []; one a channel: [rows, elements of a row] and [rows, 1].
    """
    flat = [_flat(t, s) for t in tensors]
    if s.dim() == 0:
        yield from ((parts, s, b) for parts in zip(*(t.split(BLOCK) for t in flat), strict=True))
        return
    rows = max(1, BLOCK // flat[0].shape[1])
    scales = _column(s).split(rows)
    offsets = [None] * len(scales) if b is None else _column(b).split(rows)
    yield from zip(zip(*(t.split(rows) for t in flat), strict=True), scales, offsets, strict=True)


def _join(parts: list[torch.Tensor | None], s: torch.Tensor) -> torch.Tensor | None:
    """The sums of all blocks: added for one grid, one behind the other for one a channel."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    return torch.stack(known).sum(0) if s.dim() == 0 else torch.cat(known)
