"""How a bundle is shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calib.tables import Table, decibel, megabytes, percent
from calib.words import counted
from lsq_export.verification.parity import Parity

from .faces import all_inputs

COLUMNS = ("file", ">size", ">accuracy", ">top-1 agreement", ">SQNR")


def _brief(entry: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """float32 [N, 3, 8, 8]; with the name where the network takes several."""
    batch = "1" if entry["shape"][:1] == [1] else "N"
    name = f"{entry['name']} " if "inputs" in manifest else ""
    return f"{name}{entry.get('type', 'float32')} [{', '.join(map(str, [batch, *entry['shape'][1:]]))}]"


def _share(manifest: Mapping[str, Any]) -> str:
    counts = manifest.get("multiplications") or {}
    return (
        f"; {percent(counts['integer'] / counts['all'])} of the multiplications are integer"
        if counts.get("all")
        else ""
    )


def bundle_table(directory: Path, manifest: Mapping[str, Any], parity: Parity | None) -> Table:
    """One row for each format, with what its verification found, where that is known."""
    found = parity.formats if parity else {}
    rows: list[tuple[str, ...]] = []
    for name, entry in manifest["formats"].items():
        f = found.get(name)
        measured = (percent(f.accuracy), percent(f.top1_agreement), decibel(f.sqnr_db)) if f else ("", "", "")
        size = entry.get("bytes") if isinstance(entry, dict) else None
        rows.append((f"{name}/model.onnx", megabytes(size) if size else "", *measured))
    fold = f", fold {manifest['fold']}" if "fold" in manifest else ""
    notes = [
        f"takes {' and '.join(_brief(entry, manifest) for entry in all_inputs(manifest))}; "
        f"{counted(len(manifest['layers']), 'layer')} with weights, "
        f"{counted(len(manifest['tensors']), 'tensor')}{_share(manifest)}",
        *(
            parity.verdict.splitlines()
            if parity
            else ["verification: parity.json, report.html; lsq_export.verify runs it again"]
        ),
    ]
    return Table(f"Bundle {directory} for {manifest['target']}{fold}", COLUMNS, rows, notes)
