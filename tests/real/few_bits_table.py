"""The part of docs/benchmarks/real.md about fewer than 8 bits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cells import best_static, differing, measured_on, score, table
from .networks import NETWORKS

FEW_TITLE = "\n## Four bits\n"
HEAD = """

The same networks, samples and metrics with weights of 4 bits, and inputs of layers of 8 or 4 (W4A8, W4A4): by both
methods of `lsq-export calibrate` that are for it, and by the best method of `quantize_static` (QInt4, QUInt4). In all
of them the first and the last layer and whatever is no input of a layer have 8 bits. NNCF's post-training quantization
refuses 4 bits; its `compress_weights` has them, with activations in float, which is something else. Seconds: of the
processor, for `calibrate` by `mse` and by `reconstruction`. GB: the most memory that `reconstruction` and the export
took. Differing: as above. How many samples a step of `reconstruction` takes, and how many steps, was chosen by the
scores of ppocr-v2-cls, silero-vad and one run of magika on these very samples, which makes their rows a little too
good; the other networks had no part in it. [real-few-bits.json](real-few-bits.json) has all methods.

"""
COLUMNS = (
    "network",
    "bits",
    "metric",
    "`mse`",
    "`reconstruction`",
    "`quantize_static`",
    "seconds",
    "GB",
    "differing",
)


def few_bits_part(results: Sequence[dict[str, Any]], file: Path) -> str:
    """The part; its JSON goes to file."""
    file.write_text(json.dumps(results, indent=1) + "\n")
    return FEW_TITLE + HEAD + table(COLUMNS, map(_row, results)) + measured_on() + _commits(results) + _missing(results)


def _commits(results: Sequence[dict[str, Any]]) -> str:
    """Which rows are of which commit, where they are not all of one."""
    found: dict[str, list[str]] = {}
    for result in results:
        found.setdefault(result.get("commit") or "older ones", []).append(f"{result['name']} {result['bits']}")
    told = "; ".join(f"{commit}: {', '.join(rows)}" for commit, rows in found.items())
    return f"Rows by the commit at which they were measured: {told}.\n" if len(found) > 1 else ""


def _missing(results: Sequence[dict[str, Any]]) -> str:
    """Networks that were not run at bits at which others were."""
    found = {(result["name"], result["bits"]) for result in results}
    every = [(name, bits) for bits in dict.fromkeys(result["bits"] for result in results) for name in NETWORKS]
    missing = [f"{name} {bits}" for name, bits in every if (name, bits) not in found]
    return f"Not run so far: {', '.join(missing)}.\n" if missing else ""


def _row(result: dict[str, Any]) -> list[str]:
    ways, ours = result["ways"], result["ours"]
    scores = [score(ways[name]) for name in ("mse", "reconstruction", best_static(ways))]
    cost = ", ".join(f"{told['calibrate_cpu']:.0f}" for told in ours.values())
    peak = f"{ours['reconstruction']['peak_gb']:.1f}" if "reconstruction" in ours else "-"
    differ = ", ".join(differing(told) for told in ours.values())
    metric = NETWORKS[result["name"]].metric
    return [result["name"], result["bits"], metric, *scores, cost, peak, differ]
