"""lsq_export/verification/fold_costs.py and `lsq-export folds`: what each fold costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import calib
from calib import QuantizationError
from lsq_export.graph.capture import capture
from lsq_export.graph.evaluate import evaluate
from lsq_export.qat.prepare_model import prepare
from lsq_export.rewrite.fold import fold
from lsq_export.verification.fold_costs import FOLDS, compare_folds, fold_costs
from support import networks
from support.networks import inputs
from support.published import published

assert networks  # the zoo caches the exporter's registry, which makes captures quick


def test_the_strided_fold_is_nearest_and_naive_rounding_farthest() -> None:
    seen: list[str] = []
    batches = [inputs(16, 2), inputs(16, 3)]
    costs = compare_folds(networks.trained("chain2"), inputs(2, 1), [inputs(16, 1)], batches, progress=seen.append)
    naive, integer, strided = costs
    assert tuple(cost.fold for cost in costs) == FOLDS and seen == [fold for _ in batches for fold in FOLDS]
    assert strided.codes_differing < 0.02 < integer.codes_differing < naive.codes_differing
    assert strided.sqnr_db > integer.sqnr_db > naive.sqnr_db
    assert strided.accuracy is None and strided.trained_accuracy is None


def test_with_integer_offsets_the_integer_fold_is_naive_rounding_and_only_biases_are_rounded() -> None:
    naive, integer, strided = compare_folds(networks.trained("integer"), inputs(2, 1), [inputs(16, 1)], [inputs(16, 2)])
    assert integer == replace(naive, fold="integer")
    # without a weight gain, the unit of a bias is coarse (E6)
    assert strided.codes_differing < integer.codes_differing < 0.1


def test_no_batches_are_refused() -> None:
    with pytest.raises(QuantizationError, match="nothing to compare on"):
        compare_folds(networks.trained("chain2"), inputs(2, 1), [inputs(16, 1)], [])


def test_the_worst_output_counts() -> None:
    """As in the parity of the same fold: not the first output alone."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = torch.relu(self.a(x))
            return y.mean((2, 3)), self.b(y)

    model, x = (
        prepare(Two().eval(), published(weight_bits=3, activation_bits=3, first_last_bits=None)),
        torch.randn(8, 3, 6, 6),
    )
    calib.initialize(model, [x])
    strided = fold(capture(model, x[:1]), [x])
    (cost,) = fold_costs([strided], [(x, None)])
    expected, found = ([v.numpy() for v in evaluate(m.graph, x)] for m in (strided.trained, strided.model))
    noise = [10 * np.log10((e**2).sum() / ((f - e) ** 2).sum()) for e, f in zip(expected, found, strict=True)]
    assert cost.sqnr_db == pytest.approx(min(noise)) and noise[1] < noise[0] - 1
