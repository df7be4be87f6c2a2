"""lsq_export/verification/reasons.py: each reason has a word and a meaning."""

from __future__ import annotations

import json

from lsq_export.qat.origins import ORIGINS, TRAINED
from lsq_export.verification.reasons import Reason, explained, in_short


def test_every_reason_is_explained() -> None:
    for origin in ORIGINS:
        assert set(explained(origin)) == set(in_short(origin)) == set(Reason)
        words = " ".join((*explained(origin).values(), *in_short(origin).values()))
        assert "{" not in words and ("train" in words) == (origin == TRAINED)


def test_a_reason_is_its_word() -> None:
    assert f"{Reason.TIE}" == str(Reason.TIE) == Reason.TIE == "tie"
    assert json.dumps({Reason.EDGE: 1}) == '{"edge": 1}'
