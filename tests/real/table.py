"""The page docs/benchmarks/real.md, from records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cells import best_static, differing, measured_on, score, seconds_of, table
from .few_bits_table import FEW_TITLE, few_bits_part
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
    """real.md and the JSON of the parts that the results are about; the other part of the page stays as it is."""
    page, few = directory / "real.md", [result for result in results if "bits" in result]
    known = page.read_text() if page.exists() else ""
    parts = [known.partition(FEW_TITLE)[0], "".join(known.partition(FEW_TITLE)[1:])]
    if len(few) < len(results):
        parts[0] = _eight([result for result in results if "bits" not in result], directory / "real.json")
    if few:
        parts[1] = few_bits_part(few, directory / "real-few-bits.json")
    page.write_text("".join(parts))


def _eight(results: Sequence[dict[str, Any]], file: Path) -> str:
    file.write_text(json.dumps(results, indent=1) + "\n")
    return HEAD + table(SCORES, map(_scores, results)) + COST + table(COSTS, map(_costs, results)) + measured_on()


def _scores(result: dict[str, Any]) -> list[str]:
    ways = result["ways"]
    values = [score(ways[name]) for name in ("ours", best_static(ways), "nncf")]
    return [result["name"], str(result["samples"]), NETWORKS[result["name"]].metric, *values]


def _costs(result: dict[str, Any]) -> list[str]:
    ways, ours, static = result["ways"], result["ours"], best_static(result["ways"])
    seconds = ", ".join(seconds_of(ways[name]) for name in ("ours", static, "nncf"))
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
        differing(ours),
        *faster,
    ]


def _faster(latency: dict[str, Any] | None, name: str) -> str:
    if latency is None or name not in latency["faster"]:
        return "-"
    value, low, high = latency["faster"][name]
    return f"{value:.2f}" if latency["busy"] is None else f"{value:.2f} ({low:.2f} … {high:.2f})"
