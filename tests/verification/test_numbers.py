"""lsq_export/verification/numbers.py: numbers as people read them."""

from __future__ import annotations

import math

from lsq_export.verification.numbers import by_output, decibel, megabytes, number, percent, share, unsigned_zero


def test_absent_and_infinite() -> None:
    assert (percent(0.12345), percent(None), number(None), megabytes(None)) == ("12.35%", "–", "–", "–")
    assert (decibel(30.04), decibel(None), decibel(-math.inf)) == ("30.0 dB", "inf dB", "-inf dB")


def test_shares_that_are_tiny() -> None:
    assert [share(value) for value in (0.16389, 0.00078, 2e-6, 0.0)] == ["16.4%", "0.078%", "0.0002%", "0%"]


def test_sizes_keep_their_digits() -> None:
    assert [megabytes(count) for count in (25_000, 100_000, 8_000_000)] == ["0.025 MB", "0.10 MB", "8.00 MB"]


def test_no_zero_has_a_sign() -> None:
    assert [unsigned_zero(text) for text in ("-0", "-0.00", "-0.01", "0.0")] == ["0", "0.00", "-0.01", "0.0"]
    assert (number(-0.0), percent(-0.0), decibel(-0.01)) == ("0", "0.00%", "0.0 dB")


def test_several_outputs_are_named_the_worst_first() -> None:
    assert by_output({}) == by_output({"only": 3.0}) == ""
    assert by_output({"a": None, "b": 20.04}) == " (b 20.0 dB, a inf dB)"
    assert by_output({name: float(index) for index, name in enumerate("abcde")}) == (
        " (a 0.0 dB, b 1.0 dB, c 2.0 dB and 2 more)"
    )
