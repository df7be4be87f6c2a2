"""training.loss: the loss against its formula."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lsq_export.training.fit import FINETUNE
from lsq_export.training.loss import loss_sum


def test_loss_is_the_formula() -> None:
    """Against sums written out in float64."""
    generator = torch.Generator().manual_seed(0)
    z, t = (3 * torch.randn((5, 4), generator=generator, dtype=torch.float64) for _ in range(2))
    y = torch.tensor([0, 3, 1, 1, 2])
    smooth, d, temperature = 0.1, 0.3, 2.5
    found = loss_sum(z, y, replace(FINETUNE, label_smoothing=smooth, distill=d, temperature=temperature), t)
    expected = 0.0
    for n in range(5):
        total = sum(float(v.exp()) for v in z[n])
        target = [smooth / 4 + (1 - smooth) * (k == int(y[n])) for k in range(4)]
        hard = -sum(target[k] * float((z[n, k].exp() / total).log()) for k in range(4))
        q, p = ([float((v / temperature).exp()) for v in logits] for logits in (z[n], t[n]))
        q, p = [v / sum(q) for v in q], [v / sum(p) for v in p]
        soft = sum(b * (math.log(b) - math.log(a)) for a, b in zip(q, p, strict=True))
        expected += (1 - d) * hard + d * temperature**2 * soft
    assert float(found) == pytest.approx(expected, rel=1e-12)
    assert float(loss_sum(z, y, FINETUNE)) == pytest.approx(float(nn.functional.cross_entropy(z, y, reduction="sum")))
