"""Where the time of a model goes: each operator type's share, from ONNX Runtime's profile of the optimized graph."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from calib.errors import QuantizationError

from .sessions import Source, open_session

RUNS, WARMUP = 10, 3


@dataclass(frozen=True, kw_only=True)
class OperatorShare:
    """What one operator type costs.

    nodes: how many of the type the optimized graph has. share: of the time of all nodes, 0-1. ms: the times of these
    nodes (medians of the runs), added up.
    """

    nodes: int
    share: float
    ms: float


_NUMBERED = re.compile(r"^(Lookup|Product|Sum|Depthwise|Conv)\d+$")  # one kernel with many names


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
            node = event["args"]["op_name"], event["name"] + event["args"].get("node_index", "")
            times.setdefault(node, []).append(event["dur"] / 1e3)
    medians: dict[str, list[float]] = {}
    for (operator, _), runs_of_node in times.items():
        medians.setdefault(_NUMBERED.sub(r"\1", operator), []).append(statistics.median(runs_of_node[WARMUP:]))
    total = sum(map(sum, medians.values()))
    if not total:
        raise QuantizationError(f"model {name}: ONNX Runtime's profile of it has no operators")
    ordered = sorted(medians.items(), key=lambda item: -sum(item[1]))
    return {operator: OperatorShare(nodes=len(ms), share=sum(ms) / total, ms=sum(ms)) for operator, ms in ordered}
