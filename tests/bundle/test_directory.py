"""lsq_export/bundle/directory.py: a bundle is opened as it was exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lsq_export
from support.exported import Exported


def test_open_bundle_reads_what_export_returned(exported: Exported) -> None:
    again = lsq_export.open_bundle(str(exported.bundle.directory))
    assert (
        again == replace(exported.bundle, parity=None)
        and set(again.models) == {"qdq", "qoperator"}
        and isinstance(again.directory, Path)
    )
