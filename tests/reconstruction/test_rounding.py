"""A learned weight: at first the nearest codes, then up or down."""

from __future__ import annotations

import pytest
import torch

from lsq_export.qat.quantizer import Quantizer
from lsq_export.reconstruction.rounding import LearnedWeight


def _weight(channels: int | None) -> tuple[torch.Tensor, Quantizer]:
    w = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    w[0, 0, 0, 0], w[1, 0, 0, 0] = 99.0, -99.0
    quantizer = Quantizer.weight("a.weight", 4, channels=channels)
    quantizer.set_grid(torch.tensor([0.1, 0.2, 0.3, 0.4]) if channels else 0.25)
    return w, quantizer.eval()


@pytest.mark.parametrize("channels", [None, 4])
def test_at_first_it_is_rounded_to_the_nearest(channels: int | None) -> None:
    w, quantizer = _weight(channels)
    assert torch.equal(LearnedWeight(w, quantizer).value(), quantizer(w))


def test_what_is_learned_goes_up_or_down_and_not_beyond_the_grid() -> None:
    w, quantizer = _weight(4)
    learned = LearnedWeight(w, quantizer)
    scale = quantizer.scale.detach().reshape(4, 1, 1, 1)
    learned.value().sum().backward()  # type: ignore[no-untyped-call]
    assert learned.share.grad is not None
    inside = (w / scale > -8) & (w / scale < 7)
    assert torch.allclose(learned.share.grad, torch.where(inside, scale, 0.0))
    with torch.no_grad():
        learned.share.copy_(torch.full_like(w, 5.0))
        above = learned.value()
        learned.share.copy_(torch.full_like(w, -5.0))
        below = learned.value()
    codes = torch.floor(w / scale)
    assert torch.equal(above, (codes + 1).clamp(-8, 7) * scale) and torch.equal(below, codes.clamp(-8, 7) * scale)
    learned.settle()
    assert torch.equal(learned.value(), below) and not learned.value().requires_grad
    assert torch.equal(quantizer(below), below), "a weight on its grid is rounded to itself"
