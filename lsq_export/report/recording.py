"""What verification found, written into a bundle: parity.json for programs, report.html for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsq_export.bundle.directory import PARITY, REPORT, Bundle
from lsq_export.bundle.sums import update_sums
from lsq_export.files.text import write_json, write_text
from lsq_export.verification.parity import Parity

from . import render


def write_parity(directory: Path, manifest: Mapping[str, Any], parity: Parity) -> None:
    """Write parity.json and report.html, without their sums."""
    plain = parity.to_dict()
    write_json(directory / PARITY, plain)
    write_text(directory / REPORT, render(dict(manifest), plain))


def record(bundle: Bundle, parity: Parity) -> None:
    """Write parity.json and report.html into a bundle, and their sums; the sums of all other files stay."""
    write_parity(bundle.directory, bundle.manifest, parity)
    update_sums(bundle.directory, PARITY, REPORT)
