"""The digits, loaded once for all tests of data."""

from __future__ import annotations

import pytest

from lsq_export.data.dataset import Dataset
from lsq_export.data.loading import load


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The data set `digits` in its default size."""
    return load("digits")
