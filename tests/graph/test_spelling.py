"""graph.spelling: other words, the same values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lsq_export.graph.spelling import Spelling

TOKENS = torch.tensor([[1, 2, 0], [3, 3, 1], [0, 0, 0]])
TABLE = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.rand(3, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mode", ["mean", "sum", "max"])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 0}, {"max_norm": 1.0}])
def test_bags_of_embeddings(mode: str, options: dict[str, Any]) -> None:
    expected = F.embedding_bag(TOKENS, TABLE.clone(), mode=mode, **options)
    with Spelling():
        found = F.embedding_bag(TOKENS, TABLE.clone(), mode=mode, **options)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (F.rrelu, {}),
        (F.rrelu, {"lower": 0.1, "upper": 0.5}),
        (torch.rrelu, {}),
        (torch.clamp, {"min": 0.1, "max": 2}),
        (torch.clamp, {"max": 1}),
        (torch.amin, {}),
        (torch.Tensor.amax, {}),
        (torch.amax, {"dim": 0, "keepdim": True}),
    ],
)
def test_functions_of_one_value(function: Any, arguments: dict[str, Any]) -> None:
    x = torch.linspace(-3, 3, 13)
    with Spelling():
        found = function(x, **arguments)
    torch.testing.assert_close(found, function(x, **arguments), rtol=0, atol=0)


def test_integers_keep_their_bounds() -> None:
    with Spelling():
        assert torch.clamp(torch.arange(5), 1, 3).dtype == torch.int64


def test_weights_of_a_bag() -> None:
    expected = F.embedding_bag(TOKENS, TABLE, mode="sum", per_sample_weights=WEIGHTS)
    with Spelling():
        torch.testing.assert_close(F.embedding_bag(TOKENS, TABLE, mode="sum", per_sample_weights=WEIGHTS), expected)
