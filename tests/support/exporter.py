"""torch's exporter makes its tables of operators anew for every export, which takes as long as the export itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import pytest
from torch._export.utils import _collect_all_valid_cia_ops
from torch.export import decomp_utils, exported_program
from torch.onnx._internal.exporter import _registration

_onnx_operators = lru_cache(_registration.ONNXRegistry.from_torchlib)
_composite_operators = lru_cache(_collect_all_valid_cia_ops)


@contextmanager
def operator_tables_made_once() -> Iterator[None]:
    """Here the exporter makes those tables once per process, and every export reads the same ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_registration.ONNXRegistry, "from_torchlib", staticmethod(_onnx_operators))
        for module in (decomp_utils, exported_program):
            patch.setattr(module, "_collect_all_valid_cia_ops", _composite_operators)
        yield
