"""Data sets that commands and examples train and calibrate on. Names are imported when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calib.lazy import attributes_of

if TYPE_CHECKING:
    from .dataset import Batches as Batches
    from .dataset import Dataset as Dataset
    from .dataset import TensorSplit as TensorSplit
    from .description import describe as describe
    from .loading import load as load
    from .sample import Sample as Sample

__all__ = ["Batches", "Dataset", "Sample", "TensorSplit", "describe", "load"]

__getattr__ = attributes_of(
    __name__,
    {
        "Batches": "lsq_export.data.dataset",
        "Dataset": "lsq_export.data.dataset",
        "Sample": "lsq_export.data.sample",
        "TensorSplit": "lsq_export.data.dataset",
        "describe": "lsq_export.data.description",
        "load": "lsq_export.data.loading",
    },
)
