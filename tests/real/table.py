"""The page docs/benchmarks/real.md, from records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from lsq_export.bench.machine import this_machine

from .files import STATIC
from .networks import NETWORKS

HEAD = """# Real networks without training

Networks of public packages, quantized at W8A8 after their training on the same samples (`make bench-real`): by
`lsq-export calibrate` as it comes, by `quantize_static` of ONNX Runtime (QDQ, a scale for each channel, after its
pre-processing; the best of its methods MinMax, Entropy and Percentile) and by the post-training quantization of NNCF
(its ONNX backend, all samples). Each metric compares a file with the float network, on other samples than those of the
calibration, so that float itself has 100 %; dB: how far the error is below the outputs.
[real.json](real.json) has all methods.

"""
SCORES = ("network", "samples", "metric", "ours", "`quantize_static`", "NNCF")
COST = """
What it costs. Processor seconds of one process, in the order ours, `quantize_static`, NNCF. Integers: the share of
multiplications in integer operators of our `qoperator` file; the float operators between them. Differing: elements of
all tensors in which ONNX Runtime and the integer reference differ, on the first calibration samples. Faster: how many
times faster our file is on one sample and one thread, in the same run; with the interval where the machine was busy.

"""
COSTS = (
    "network",
    "seconds",
    "integers",
    "float operators",
    "differing",
    "than float",
    "than `quantize_static`",
    "NNCF",
)
SHOWN = 4  # kinds of float operators


def write_docs(results: Sequence[dict[str, Any]], directory: Path) -> None:
    """real.md and real.json."""
    page = HEAD + _table(SCORES, map(_scores, results)) + COST + _table(COSTS, map(_costs, results))
    page += f"\nMeasured on {date.today().isoformat()}, {this_machine()}.\n"
    (directory / "real.md").write_text(page)
    (directory / "real.json").write_text(json.dumps(results, indent=1) + "\n")


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _static(ways: dict[str, Any]) -> str:
    return max(STATIC, key=lambda name: -1 if ways[name]["score"] is None else ways[name]["score"])


def _scores(result: dict[str, Any]) -> list[str]:
    ways = result["ways"]
    values = [_score(ways[name]) for name in ("ours", _static(ways), "nncf")]
    return [result["name"], str(result["samples"]), NETWORKS[result["name"]].metric, *values]


def _score(way: dict[str, Any]) -> str:
    if way["score"] is None:
        return f"no file: {way['why'][:80].replace('|', '/')}"
    return f"{way['score']:.1%}, {way['sqnr_db']:.1f} dB"


def _costs(result: dict[str, Any]) -> list[str]:
    ways, ours, static = result["ways"], result["ours"], _static(result["ways"])
    seconds = ", ".join(_seconds(ways[name]) for name in ("ours", static, "nncf"))
    faster = [_faster(result["latency"], name) for name in ("float", static, "nncf")]
    if ours is None:
        return [result["name"], seconds, "-", "-", "-", *faster]
    known = ours["multiplications"]  # a manifest has them where something stays float
    share = f"{known['integer'] / known['all']:.1%}" if known else "100%"
    counted = sorted(ours["islands"].items(), key=lambda item: -item[1])
    islands = ", ".join(f"{count} {name}" for name, count in counted[:SHOWN])
    more = sum(count for _, count in counted[SHOWN:])
    return [
        result["name"],
        seconds,
        share,
        islands + (f", {more} others" if more else ""),
        _differing(ours),
        *faster,
    ]


def _differing(ours: dict[str, Any]) -> str:
    return str(ours["differing"]) + ("" if ours["promises"] else " (a promise is broken)")


def _seconds(way: dict[str, Any]) -> str:
    return "-" if way["cpu"] is None else f"{way['cpu']:.0f}"


def _faster(latency: dict[str, Any] | None, name: str) -> str:
    if latency is None or name not in latency["faster"]:
        return "-"
    value, low, high = latency["faster"][name]
    return f"{value:.2f}" if latency["busy"] is None else f"{value:.2f} ({low:.2f} … {high:.2f})"
