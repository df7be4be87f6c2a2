"""Where the time of a model goes:

the share of each operator type, from ONNX Runtime's profile of the optimized graph.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from calib.errors import QuantizationError

from .timing import Source, open_session

RUNS, WARMUP = 10, 3


@dataclass(frozen=True)
class OperatorShare:
    """nodes: how many the optimized graph has of the type.

    share: of the time of all nodes, 0-1. ms: their times (medians of the runs), added up.
    """

    nodes: int
    share: float
    ms: float


def operator_shares(
    name: str, source: Source, feed: Mapping[str, np.ndarray], *, threads: int = 2, runs: int = RUNS
) -> dict[str, OperatorShare]:
    """{operator type: its share}, the largest first; shares sum to 1. The first WARMUP runs are left out.

    Errors (QuantizationError): the model cannot be loaded or run, or ONNX Runtime wrote no profile.
    """
    with TemporaryDirectory(prefix="lsq-export-bench.") as directory:
        session = open_session(name, source, threads, profile=f"{directory}/profile")
        try:
            for _ in range(WARMUP + runs):
                session.run(None, dict(feed))
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise QuantizationError(f"model {name}: it cannot be profiled ({' '.join(str(error).split())})") from error
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times.setdefault(
                (event["args"]["op_name"], event["name"] + event["args"].get("node_index", "")), []
            ).append(event["dur"] / 1e3)
    counted: dict[str, list[float]] = {}
    for (operator, _), found in times.items():  # one entry a node
        counted.setdefault(operator, []).append(statistics.median(found[WARMUP:]))
    total = sum(map(sum, counted.values()))
    if not total:
        raise QuantizationError(f"model {name}: ONNX Runtime's profile of it has no operators")
    ordered = sorted(counted.items(), key=lambda item: -sum(item[1]))
    return {operator: OperatorShare(len(ms), sum(ms) / total, sum(ms)) for operator, ms in ordered}
