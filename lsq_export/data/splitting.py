"""The test split of a source that has none: a share of each class, drawn with a fixed seed."""

from __future__ import annotations

import numpy as np

from calib.errors import QuantizationError
from calib.words import counted

TEST_FRACTION = 0.2
SPLIT_SEED = 0
DRAWN = "one in five of each class is test, drawn with a fixed seed"


def stratified_split(y: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices (train, test), both sorted.

    TEST_FRACTION of each class, rounded and at least one sample, is test; a class of one sample is train.

    Errors (QuantizationError): no class has two samples. where: the source, for the message.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    test: list[int] = []
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        if len(members) > 1:
            test.extend(members[: max(1, round(TEST_FRACTION * len(members)))])
    if not test:
        few = "no class has two samples" if len(y) > 1 else f"it has {counted(len(y), 'sample')}"
        raise QuantizationError(f"{where}: {few}, so there is nothing to test on; add samples or give a test split")
    return np.setdiff1d(np.arange(len(y)), test), np.sort(np.array(test, dtype=np.int64))
