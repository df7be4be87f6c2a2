"""Training: a float network, then its low-bit form with learned scales and offsets.

`pretrain` and `finetune` train a model in place, `load_weights` gives it weights that were trained elsewhere. The other
files are their parts, and what commands need around them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calib.lazy import attributes_of

if TYPE_CHECKING:
    from .fit import finetune as finetune
    from .fit import pretrain as pretrain
    from .weights import LoadedWeights as LoadedWeights
    from .weights import load_weights as load_weights

__all__ = ["LoadedWeights", "finetune", "load_weights", "pretrain"]

__getattr__ = attributes_of(
    __name__,
    {
        "LoadedWeights": "lsq_export.training.weights",
        "finetune": "lsq_export.training.fit",
        "load_weights": "lsq_export.training.weights",
        "pretrain": "lsq_export.training.fit",
    },
)
