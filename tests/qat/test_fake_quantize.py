"""qat.fake_quantize: the autograd function against the paper's table, element by element in Python floats.

Also blocks, memory formats, types, fused kernels, torch.compile and gradcheck.
"""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from torch import nn

from calib import QuantizationError
from calib.grid import dequantize, position, quantize, snap_
from lsq_export.qat import fuse, kernels
from lsq_export.qat.fake_quantize import fake_quantize
from lsq_export.qat.kernels import Kernels
from lsq_export.qat.prepare_model import QATConfig, prepare, quantizers
from support.lsq_table import oracle, samples

G = 0.125  # a factor that is exact in binary


def run(
    x: torch.Tensor,
    s: torch.Tensor,
    b: torch.Tensor | None,
    n: int,
    p: int,
    weights: torch.Tensor,
    kind: Kernels = Kernels.BLOCKS,
) -> Any:
    """x̂ and the gradients of Σ weights·x̂."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    s = s.detach().clone().requires_grad_()
    b = None if b is None else b.detach().clone().requires_grad_()
    y = fake_quantize(x, s, b, n, p, G, kind)
    y.backward(weights)
    return y.detach(), x.grad, s.grad, None if b is None else b.grad


@pytest.fixture(params=[64, 1 << 17], ids=["blocks", "whole"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "BLOCK", request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize(("n", "p"), [(0, 15), (-8, 7), (0, 3), (-128, 127)])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("offset", [True, False])
def test_one_grid(n: int, p: int, channels_last: bool, offset: bool) -> None:
    s, b = 0.25, -0.375 if offset else 0.0
    x = samples((4, 3, 5, 7), s, b, n, p)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)  # the gradient stays NCHW: that must not matter
    y, grad_x, grad_s, grad_b = run(
        x, torch.tensor(s).double(), torch.tensor(b).double() if offset else None, n, p, weights
    )
    assert y.stride() == x.stride() == grad_x.stride()
    table = [oracle(v, s, b, n, p) for v in x.flatten().tolist()]
    w = weights.flatten().tolist()
    assert y.flatten().tolist() == [t[0] for t in table]
    assert grad_x.flatten().tolist() == [wi * t[1] for wi, t in zip(w, table, strict=True)]
    # float64 sums in another order: 1e-12
    assert grad_s.item() == pytest.approx(
        G * sum(wi * t[2] for wi, t in zip(w, table, strict=True)), rel=1e-12, abs=1e-12
    )
    if offset:
        assert grad_b.item() == pytest.approx(
            G * sum(wi * t[3] for wi, t in zip(w, table, strict=True)), rel=1e-12, abs=1e-12
        )


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("offset", [True, False])
def test_one_grid_a_channel(channels_last: bool, offset: bool) -> None:
    scales, offsets = [0.25, 0.5, 2.0, 1.0, 0.125], [0.5, -0.25, 0.0, -1.0, 0.375] if offset else [0.0] * 5
    x = torch.stack([samples((4, 3, 3), s, b, -8, 7) for s, b in zip(scales, offsets, strict=True)])
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    state = torch.tensor(scales).double(), torch.tensor(offsets).double() if offset else None
    y, grad_x, grad_s, grad_b = run(x, *state, -8, 7, weights)
    assert grad_s.shape == (5,)
    for c, (s, b) in enumerate(zip(scales, offsets, strict=True)):
        table, w = [oracle(v, s, b, -8, 7) for v in x[c].flatten().tolist()], weights[c].flatten().tolist()
        assert y[c].flatten().tolist() == [t[0] for t in table]
        assert grad_x[c].flatten().tolist() == [wi * t[1] for wi, t in zip(w, table, strict=True)]
        assert grad_s[c].item() == pytest.approx(
            G * sum(wi * t[2] for wi, t in zip(w, table, strict=True)), rel=1e-12, abs=1e-12
        )
        if offset:
            assert grad_b[c].item() == pytest.approx(
                G * sum(wi * t[3] for wi, t in zip(w, table, strict=True)), rel=1e-12, abs=1e-12
            )


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("offset", [True, False])
def test_values_in_place_are_those_of_the_plain_formula_to_the_bit(offset: bool) -> None:
    x = torch.randn(30_000, generator=torch.Generator().manual_seed(0)) * 3
    s, b = torch.tensor(0.0371), torch.tensor(-0.2173) if offset else None
    plain = dequantize(quantize(x, s, b if offset else 0.0, 0, 255), s, b if offset else 0.0)
    assert torch.equal(snap_(position(x, s, b), s, b, 0, 255), plain)
    assert torch.equal(fake_quantize(x, s, b, 0, 255, 1.0), plain)
    codes = quantize(x, s, b if offset else 0.0, 0, 255)
    assert torch.equal(position(x, s, b).round().clip(0, 255), codes)


def test_gradcheck_of_the_offset_and_scale_where_everything_is_clipped() -> None:
    """There x̂ = s·n + β or s·p + β: differentiable, and the paper's gradients are the true ones."""
    x = torch.tensor([-5.0, 9.0, 7.0, -3.0], dtype=torch.float64)
    s, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.25, -0.5))
    assert torch.autograd.gradcheck(lambda s, b: fake_quantize(x, s, b, -8, 7, 1.0), (s, b))


def test_gradcheck_of_x_against_the_straight_through_form() -> None:
    """With round replaced by the identity the paper's ∂x̂/∂x is the derivative of a clamp."""
    x = torch.linspace(-2, 3, 41, dtype=torch.float64) + 0.01
    s, b = torch.tensor(0.25).double(), torch.tensor(-0.5).double()
    clamp = x.clone().requires_grad_()
    (((clamp - b) / s).clamp(0, 7) * s + b).sum().backward()
    ours = x.clone().requires_grad_()
    fake_quantize(ours, s, b, 0, 7, 1.0).sum().backward()
    torch.testing.assert_close(ours.grad, clamp.grad, rtol=0, atol=1e-15)  # the clamp's own chain is /s then ·s


@pytest.mark.usefixtures("block")
def test_float32_gradients_are_those_of_float64_to_a_few_roundings() -> None:
    x = torch.randn(16, 40, 40, generator=torch.Generator().manual_seed(0)).double()
    e = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
    s, b = torch.tensor(0.25), torch.tensor(-0.375)  # exact in float32; x is, too, so v differs by one rounding at most
    wide, narrow = run(x, s.double(), b.double(), 0, 15, e), run(x.float(), s, b, 0, 15, e.float())
    assert torch.equal(narrow[0].double(), wide[0]) and torch.equal(narrow[1], wide[1].float())
    # 25600 random terms of up to 15·|e|: float32 sums are good to 1e-6 of Σ|terms|
    terms = G * e.abs().sum().item() * 15
    assert (
        abs(narrow[2].item() - wide[2].item()) < 1e-6 * terms and abs(narrow[3].item() - wide[3].item()) < 1e-6 * terms
    )


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_compute_in_float32_and_keep_parameters_there(dtype: Any) -> None:
    x = torch.randn(8, 50, generator=torch.Generator().manual_seed(0)).to(dtype)
    s, b, ones = torch.tensor(0.01), torch.tensor(-0.5), torch.ones(8, 50)
    y, grad_x, grad_s, grad_b = run(x, s, b, 0, 255, ones.to(dtype))
    wide = run(x.float(), s, b, 0, 255, ones)
    assert y.dtype == grad_x.dtype == dtype and grad_s.dtype == grad_b.dtype == torch.float32
    assert torch.equal(y, wide[0].to(dtype)) and torch.equal(grad_x, wide[1].to(dtype))
    torch.testing.assert_close((grad_s, grad_b), wide[2:])


@pytest.mark.usefixtures("block")
def test_nothing_is_saved_but_the_tensors_themselves() -> None:
    x = torch.randn(40, 10, requires_grad=True)
    s, b = torch.tensor(0.1, requires_grad=True), torch.tensor(0.0, requires_grad=True)
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        fake_quantize(x, s, b, 0, 15, 1.0)
    assert {t.data_ptr() for t in saved} == {t.data_ptr() for t in (x, s, b)}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler about torch
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [None, 6])
def test_fused_kernels_give_what_blocks_give(channels: int | None, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are held against the oracle above."""
    x = samples((6, 5, 7, 4), 0.25, -0.375, -8, 7).to(dtype).contiguous(memory_format=torch.channels_last)
    e = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    s, b = (
        torch.tensor(v) if channels is None else torch.tensor(v) * torch.arange(1, channels + 1) for v in (0.25, -0.375)
    )
    expected = run(x, s, b, -8, 7, e), run(x, s, None, 0, 15, e)
    torch.compiler.reset()
    kernels.fused_kernels.cache_clear()
    monkeypatch.setattr(kernels, "FUSED_FROM", 0)
    fused = run(x, s, b, -8, 7, e, Kernels.FUSED), run(x, s, None, 0, 15, e, Kernels.FUSED)
    for ours, theirs in zip(fused, expected, strict=True):
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1]) and ours[0].stride() == x.stride()
        torch.testing.assert_close(ours[2:], theirs[2:])


def test_fused_kernels_need_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.fused_kernels.cache_clear()
    monkeypatch.setattr(torch, "compile", lambda function, **options: broken)
    model = net()
    with pytest.raises(QuantizationError, match=r"C\+\+ compiler"):
        fuse(model)
    assert all(quantizer.kernels is Kernels.BLOCKS for quantizer in quantizers(model).values())


def broken(*arguments: Any) -> None:
    raise RuntimeError("no compiler")


def net() -> nn.Module:
    torch.manual_seed(0)
    model = prepare(
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(144, 5)
        ),
        QATConfig(),
    )
    for quantizer in quantizers(model).values():
        quantizer.set_grid(0.05)
    return model


# torch 2.13's tracer instantiates autograd functions.
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    ("autocast", "channels_last"),
    [
        (True, True),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(False, False), (False, True), (True, False)]),
    ],
)
def test_torch_compile_has_no_graph_break_and_the_same_gradients(autocast: bool, channels_last: bool) -> None:
    """aot_eager: traced, functionalized and partitioned, with torch's own kernels."""
    results = []
    for compiled in (False, True):
        torch.compiler.reset()
        model = net()
        x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        if channels_last:
            model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
        step = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            y = step(x)
        y.float().square().sum().backward()
        results.append((y.detach(), {name: p.grad for name, p in model.named_parameters()}))
    (plain, plain_grads), (traced, traced_grads) = results
    assert all(g is None or g.dtype == torch.float32 for g in traced_grads.values())
    torch.testing.assert_close(traced, plain)
    torch.testing.assert_close(
        traced_grads, plain_grads, rtol=2e-2 if autocast else 1e-4, atol=1e-2 if autocast else 1e-4
    )
