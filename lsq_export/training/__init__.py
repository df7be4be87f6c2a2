"""Training: a float network, then its low-bit form with learned scales and offsets.

`pretrain` and `finetune` train a model in place. The other files are their parts, and what commands need around them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calib.lazy import attributes_of

if TYPE_CHECKING:
    from .fit import finetune as finetune
    from .fit import pretrain as pretrain

__all__ = ["finetune", "pretrain"]

__getattr__ = attributes_of(__name__, dict.fromkeys(__all__, "lsq_export.training.fit"))
