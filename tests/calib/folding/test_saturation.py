"""saturation: the bound against all pairs of products, on a kernel that saturates."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from calib.folding.saturation import saturating


def kernel(codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sums [N] of products of codes [N, K] and weights [K], as vpmaddubsw adds neighbors in a saturating int16."""
    products = codes.astype(np.int64) * weights.astype(np.int64)
    if products.shape[1] % 2:
        products = np.pad(products, [(0, 0), (0, 1)])
    pairs = products[:, ::2] + products[:, 1::2]
    return np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=1)


def can_differ(weights: np.ndarray, largest: int) -> bool:
    """Whether some codes and some order of the products give another sum than integers do: all are tried."""
    corners = np.array(list(itertools.product((0, largest), repeat=len(weights))))
    exact = (corners * weights.astype(np.int64)).sum(axis=1)
    orders = itertools.permutations(range(len(weights)))
    return any((kernel(corners[:, list(o)], weights[list(o)]) != exact).any() for o in orders)


@pytest.mark.parametrize("largest", [15, 128, 129, 255])
@pytest.mark.parametrize("seed", range(12))
def test_the_bound_is_that_of_the_kernel(seed: int, largest: int) -> None:
    """Neither too small nor too large: rows near the bound, of all signs."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-128, 128, (6, 4))
    weights[:3] = np.clip(weights[:3], -66, 66)
    found = [saturating(row[None], largest) is not None for row in weights]
    assert found == [can_differ(row, largest) for row in weights]


@pytest.mark.parametrize(
    ("weights", "largest", "row"),
    [
        ([[64, 64], [-64, -64]], 255, None),
        ([[64, 64], [64, 65]], 255, 1),
        ([[-64, -64], [-64, -65]], 255, 1),
        ([[127, -128], [127, 1]], 255, None),  # of two signs
        ([[127, 0, 2]], 255, 0),
        ([[127, 127, -128, -128]], 128, None),
        ([[127, 127]], 129, None),
        ([[127, 127]], 130, 0),
        ([[-128, -128]], 129, 0),
        ([[127], [127]], 255, None),  # one product: nothing is added
        ([[127] * 9, [-128] * 9], 15, None),
        (np.zeros((0, 4)), 255, None),
    ],
)
def test_rows_at_the_bound(weights: list[list[int]], largest: int, row: int | None) -> None:
    assert saturating(np.array(weights), largest) == row
