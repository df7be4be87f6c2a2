"""LSQ+ as published, which most networks of the tests are made with: it leaves the fold the most to do."""

from __future__ import annotations

from typing import Any

from lsq_export import QATConfig


def published(*widths: int, **options: Any) -> QATConfig:
    """Offsets are real, and no sum has a trained grid, unless options say so. widths: of weights and activations."""
    return QATConfig(*widths, **{"offset": "real", "edges": "calibrated", **options})
