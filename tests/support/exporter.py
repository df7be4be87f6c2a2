"""torch's exporter builds its table of operators anew for every export, which takes as long as the export itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import pytest
from torch.onnx._internal.exporter import _registration

_table = lru_cache(_registration.ONNXRegistry.from_torchlib)


@contextmanager
def one_operator_table() -> Iterator[None]:
    """Here the exporter builds that table once per process, and every export reads the same one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_registration.ONNXRegistry, "from_torchlib", staticmethod(_table))
        yield
