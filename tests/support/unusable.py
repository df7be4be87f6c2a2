"""Data that must be refused in one line."""

from __future__ import annotations

import re
from typing import Any

import pytest

from calib.errors import QuantizationError
from lsq_export.data.loading import load


def assert_unusable(spec: str, message: str, **options: Any) -> None:
    """Loading it, or reading its batches, fails with this message, on one line."""
    with pytest.raises(QuantizationError) as caught:
        data = load(spec, **options)
        for split in ("train", "test"):
            list(data.batches(split))
    assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
