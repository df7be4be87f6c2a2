"""calib/errors.py: messages of one line."""

from __future__ import annotations

import pytest

from calib.errors import QuantizationError, one_line


@pytest.mark.parametrize("message", ["two\nlines", ValueError("  two \r\n\t lines\n"), "two lines"])
def test_one_line(message: object) -> None:
    assert one_line(message) == "two lines"


def test_the_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="bad input"):
        raise QuantizationError("bad input")
