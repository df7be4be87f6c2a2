"""The tables of docs/benchmarks/speed.md from a record of bench (make bench-record).

python docs/speed_table.py out-bench/bench.jsonl

They take the place of what stands between the two comments in that page. Of a record, only those networks count that
were measured like the last one: on that machine, with the same versions, code, sizes and numbers of runs.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lsq_export.bench import Measurement
from lsq_export.bench.journal import Journal, Summary, summarize

PAGE = Path(__file__).parent / "benchmarks" / "speed.md"
BEGIN, END = "<!-- bench-record: make bench-record writes what follows -->", "<!-- bench-record: end -->"
NETWORKS = {"resnet18": "ResNet-18", "efficientnet_b0": "EfficientNet-B0", "mixnet_s": "MixNet-S"}
RATIOS = {
    "float": "× float",
    "quantize_static": "× the better `quantize_static`",
    "openvino": "× OpenVINO at its best",
    "qoperator": "× our `qoperator`",
}
STOCK = "the same file without the library × `qoperator`"
TIMES = (
    *("lookup", "float", "quantize_static"),
    *("openvino float", "openvino float f32", "openvino qdq", "openvino quantize_static qdq"),
)
Entry = tuple[dict[str, Any], Measurement]


def main(record: Path) -> None:
    """Write the page anew."""
    entries = alike(Journal(record).latest())
    if not entries:
        sys.exit(f"error: {record} has no measurements: make bench-record")
    if all(run.timing.busy for _, run in entries):
        sys.exit(
            f"error: in all {len(entries)} runs of {record} the machine was too busy to tell: {PAGE} stays as it is"
        )
    measured = datetime.fromtimestamp(record.stat().st_mtime, timezone.utc).date().isoformat()
    text = PAGE.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    PAGE.write_text(f"{before}\n\n{tables(entries, measured, commit())}\n\n{after}", encoding="utf-8")
    print(PAGE)


def alike(entries: Sequence[Entry]) -> list[Entry]:
    """The networks by name that were measured like the last one, but for offsets, batch size, threads and details."""
    named = [entry for entry in entries if entry[0].get("size")]
    keys = ("size", "weight_bits", "activation_bits", "runs", "warmup", "pause")
    return [entry for entry in named if all(entry[0].get(key) == named[-1][0].get(key) for key in keys)]


def commit() -> str:
    """The current one, in short."""
    command = ["git", "-C", str(PAGE.parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def tables(entries: Sequence[Entry], measured: str, commit: str) -> str:
    """Where and how it was measured, ratios at batch 1 with two threads, and times with real offsets."""
    settings, last = entries[-1]
    timing = last.timing
    runtimes = f"ONNX Runtime {timing.onnxruntime}"
    runtimes += f", OpenVINO {settings['openvino']}" if settings.get("openvino") else ", without OpenVINO"
    busy = sum(run.timing.busy is not None for _, run in entries)
    bits = f"W{settings.get('weight_bits', 4)}A{settings.get('activation_bits', 4)}"
    where = f"{last.machine}, {last.instruction_set}, {runtimes} ({measured}, commit {commit})."
    parts = [f"{bits}, {settings['size']}×{settings['size']}, {where}", *_ratio_table(entries), *_time_table(entries)]
    if busy:
        parts.append(f"{busy} of {len(entries)} runs are left out: the machine was too busy to tell.")
    return "\n\n".join(parts)


def _ratio_table(entries: Sequence[Entry]) -> list[str]:
    rows = []
    for (network, offset, batch, threads), runs in _groups(entries).items():
        found = summarize(runs)
        if (batch, threads) == (1, 2) and found:
            rows.append([network, offset, *(_ratio(found[0], other) for other in RATIOS), _stock(runs)])
    if not rows:
        return []
    columns = ("network", "offsets", *RATIOS.values(), STOCK)
    title = "How many times faster `lookup` with the library is, batch 1, two threads: median of the runs (each run)."
    return [title, table(columns, rows)]


def _ratio(summary: Summary, other: str) -> str:
    if other not in summary.speedups:
        return "–"
    return _spread(summary.speedups[other])


def _stock(runs: Sequence[Measurement]) -> str:
    ratios = []
    for run in runs:
        ms = {row.name: row.median_ms for row in run.timing.rows}
        if not run.timing.busy and {"qoperator", "lookup, stock"} <= set(ms):
            ratios.append(ms["qoperator"] / ms["lookup, stock"])
    return _spread(ratios) if ratios else "–"


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})"


def _time_table(entries: Sequence[Entry]) -> list[str]:
    rows = []
    for (network, offset, batch, threads), runs in _groups(entries).items():
        idle = [run for run in runs if not run.timing.busy]
        if offset == "real" and idle:
            rows.append([network, str(batch), str(threads), *(_time(idle, name, batch) for name in TIMES)])
    if not rows:
        return []
    names = (*TIMES[:2], "the better `quantize_static`", *(f"`{name}`" for name in TIMES[3:]))
    title = "Latency in ms (images per second), real offsets."
    return [title, table(("network", "batch", "threads", *names), rows)]


def _time(runs: Iterable[Measurement], name: str, batch: int) -> str:
    """The median over the runs; of the fastest model, where several names begin with `quantize_static`."""
    found = []
    for run in runs:
        ms = [
            row.median_ms
            for row in run.timing.rows
            if row.name == name or (name == "quantize_static" and row.name.startswith(f"{name} "))
        ]
        found += [min(ms)] if ms else []
    if not found:
        return "–"
    ms_of_all = statistics.median(found)
    return f"{ms_of_all:.1f} ({1e3 * batch / ms_of_all:.0f})"


def _groups(entries: Sequence[Entry]) -> dict[tuple[str, str, int, int], list[Measurement]]:
    """{(network, offsets, batch size, threads): its runs}, in order."""
    groups: dict[tuple[str, str, int, int], list[Measurement]] = {}
    for settings, measurement in entries:
        network = NETWORKS.get(settings["network"], settings["network"])
        timing = measurement.timing
        key = network, settings.get("offset", "container"), timing.batch, timing.threads
        groups.setdefault(key, []).append(measurement)
    order = list(NETWORKS.values())
    return dict(sorted(groups.items(), key=lambda item: order.index(item[0][0]) if item[0][0] in order else 9))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("error: give the record: python docs/speed_table.py out-bench/bench.jsonl")
    main(Path(sys.argv[1]))
