"""lsq_export/verification/reasons.py: each reason has a word and a meaning."""

from __future__ import annotations

import json

from lsq_export.verification.reasons import EXPLAINED, Reason


def test_every_reason_is_explained() -> None:
    assert set(EXPLAINED) == set(Reason)


def test_a_reason_is_its_word() -> None:
    assert f"{Reason.TIE}" == str(Reason.TIE) == Reason.TIE == "tie"
    assert json.dumps({Reason.EDGE: 1}) == '{"edge": 1}'
