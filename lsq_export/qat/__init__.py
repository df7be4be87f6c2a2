"""Quantization-aware training: fake quantizers with the gradients of LSQ+, and models that are prepared with them.

    from lsq_export.qat import fuse, save_memory

    fuse(model)            # faster: compiled kernels for its quantizers
    save_memory(model)     # smaller: backward makes quantized tensors again

Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calib.lazy import attributes_of

if TYPE_CHECKING:
    from .fusing import fuse as fuse
    from .memory import save_memory as save_memory

__all__ = ["fuse", "save_memory"]

__getattr__ = attributes_of(__name__, {"fuse": "lsq_export.qat.fusing", "save_memory": "lsq_export.qat.memory"})
