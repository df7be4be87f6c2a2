"""The operator of torch that stands for one use of a quantizer while a model is exported: lsq_export::mark(x, name).

It has one tensor and a name, for torch's exporter takes its time for all else that an operator has. What its ONNX form
needs is given to it after the export (lsq_export/graph/grids_aside.py).
"""

from __future__ import annotations

import torch

_LIBRARY = torch.library.Library("lsq_export", "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define("mark(Tensor x, str name) -> Tensor")  # type: ignore[no-untyped-call]


def _mark(x: torch.Tensor, name: str) -> torch.Tensor:
    return x.clone()


_LIBRARY.impl("mark", _mark, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
torch.library.register_fake("lsq_export::mark", lambda x, name: torch.empty_like(x), lib=_LIBRARY)


def mark(x: torch.Tensor, name: str) -> torch.Tensor:
    """A copy of x, marked as what the quantizer of that name makes of it."""
    marked: torch.Tensor = torch.ops.lsq_export.mark(x, name)
    return marked
