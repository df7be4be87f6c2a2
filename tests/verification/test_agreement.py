"""lsq_export/verification/agreement.py: classes and signal to noise, counted batch by batch."""

from __future__ import annotations

import numpy as np

from lsq_export.verification.agreement import Agreement


def test_the_worst_of_several_outputs_is_reported() -> None:
    """A second output that is wrong must show: its SQNR is the one that counts."""
    first, second = np.ones((4, 3)), np.ones((4, 2))
    agreement = Agreement()
    agreement.add([first, 0 * second], [first, second], None)
    assert agreement.top1 == 1 and agreement.sqnr_db == 0
