"""The page docs/benchmarks/calibration.md, from records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from .networks import NETWORKS

HEAD = """# Calibration beside its peers

Seven networks of public packages, quantized after training at W8A8 on the same samples (`make bench-real`): by
`lsq-export calibrate` as it comes, by `quantize_static` of ONNX Runtime (QDQ, a scale for each channel, after its
pre-processing; the best of its methods MinMax, Entropy and Percentile) and by NNCF (its ONNX backend). The metric
compares each file with the float network, on other samples than those of the calibration.
Calibration seconds are those of one process. [calibration.json](calibration.json) has all methods.

| network | samples | metric | ours | quantize_static | NNCF | ours, s | peers, s | differing integers |
|---|---|---|---|---|---|---|---|---|
"""


def write_docs(results: Sequence[dict[str, Any]], directory: Path) -> None:
    """calibration.md and calibration.json."""
    rows = [_row(result) for result in results]
    page = HEAD + "\n".join(rows) + f"\n\nMeasured on {date.today().isoformat()}.\n"
    (directory / "calibration.md").write_text(page)
    (directory / "calibration.json").write_text(json.dumps(results, indent=1) + "\n")


def _row(result: dict[str, Any]) -> str:
    ways = result["ways"]
    static = [ways[name] for name in ("minmax", "entropy", "percentile")]
    best = max(static, key=lambda way: -1 if way["score"] is None else way["score"])
    peers = f"{_seconds(best)}, {_seconds(ways['nncf'])}"
    cells = [
        result["name"],
        str(result["samples"]),
        NETWORKS[result["name"]].metric,
        *(_score(way) for way in (ways["qoperator"], best, ways["nncf"])),
        _seconds(ways["qoperator"]),
        peers,
        "?" if result["differing"] is None else str(result["differing"]),
    ]
    return f"| {' | '.join(cells)} |"


def _score(way: dict[str, Any]) -> str:
    return f"fails: {way['why'][:60]}" if way["score"] is None else f"{way['score']:.1%}, {way['sqnr_db']:.1f} dB"


def _seconds(way: dict[str, Any]) -> str:
    return "-" if way["seconds"] is None else f"{way['seconds']:.0f}"
