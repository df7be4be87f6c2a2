"""Measurements as JSON lines, so that a long series goes on where it was interrupted, and medians of their speedups."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calib.errors import QuantizationError
from lsq_export.files.json_lines import JsonLines

from .measurement import Measurement

ENVIRONMENT = ("machine", "lsq_export", "onnxruntime", "openvino", "python", "code")  # settings of `plan.environment`


@dataclass(frozen=True)
class Summary:
    """The runs of one network with one batch size and number of threads.

    speedups: {other model: [one number a run]}, of the models that all runs have.
    """

    network: str
    batch: int
    threads: int
    runs: int
    speedups: dict[str, list[float]]

    def median(self, other: str) -> float:
        """The median over the runs of how many times faster ours is."""
        return statistics.median(self.speedups[other])


class Journal:
    """A file of one measurement a line, with the settings that it was made with. Other lines stay as they are.

    journal = Journal(Path("bench.jsonl"))
    settings = {"network": "resnet18", "size": 224, "threads": 2, "runs": 50}
    for _ in range(len(journal.measurements(settings)), 3):
        journal.append(settings, measure(subject))
    """

    def __init__(self, path: Path) -> None:
        """Read the file, if there is one. A last line that an interruption cut is dropped.

        Errors (QuantizationError): a file that is something else.
        """
        self.path = path
        self._entries: list[tuple[dict[str, Any], Measurement]] = []
        try:
            self._file = JsonLines(path)
        except (OSError, ValueError) as error:
            raise QuantizationError(f"{path} cannot be read as JSON lines ({error}): give another file") from error
        for number, line in enumerate(self._file.lines, 1):
            try:
                entry = json.loads(line)
                self._entries.append((dict(entry["settings"]), Measurement.from_dict(entry["record"])))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise QuantizationError(
                    f"{path}, line {number}: no record of lsq-export bench; give another file, or remove the line"
                ) from error

    def measurements(self, settings: Mapping[str, Any]) -> list[Measurement]:
        """Those made with exactly these settings, in the order of the file."""
        return [measurement for theirs, measurement in self._entries if theirs == dict(settings)]

    def latest(self) -> list[tuple[dict[str, Any], Measurement]]:
        """(settings, measurement) of all that were made where the last one was, with the same versions and code."""
        last = [self._entries[-1][0].get(key) for key in ENVIRONMENT] if self._entries else []
        return [entry for entry in self._entries if [entry[0].get(key) for key in ENVIRONMENT] == last]

    def append(self, settings: Mapping[str, Any], measurement: Measurement) -> None:
        """Write one line. settings: plain values. Errors (QuantizationError): the file cannot be written."""
        entry = {"settings": dict(settings), "record": measurement.to_dict()}
        self._file.append(json.dumps(entry, allow_nan=False, ensure_ascii=False) + "\n")
        self._entries.append((dict(settings), measurement))


def summarize(measurements: Sequence[Measurement]) -> list[Summary]:
    """One summary a network, batch size and number of threads, in the order in which they first appear.

    Runs that were too busy to tell are left out.
    """
    groups: dict[tuple[str, int, int], list[Measurement]] = {}
    for measurement in measurements:
        key = measurement.network, measurement.timing.batch, measurement.timing.threads
        groups.setdefault(key, []).append(measurement)
    summaries = []
    for (network, batch, threads), all_runs in groups.items():
        runs = [run for run in all_runs if not run.timing.busy]
        if not runs:
            continue
        shared = [name for name in runs[0].speedups if all(name in run.speedups for run in runs)]
        speedups = {name: [run.speedups[name] for run in runs] for name in shared}
        summaries.append(Summary(network, batch, threads, len(runs), speedups))
    return summaries
