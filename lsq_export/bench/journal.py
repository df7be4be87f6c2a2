"""Records as JSON lines, so that a long series of runs goes on where it was interrupted, and the medians of their
ratios.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calib.errors import QuantizationError
from lsq_export.files.json_lines import JsonLines

from .record import Record


@dataclass(frozen=True)
class Summary:
    """Of the runs of one network. speedups: {other model: [one number a run]}, of the models that all runs have."""

    network: str
    runs: int
    speedups: dict[str, list[float]]

    def median(self, other: str) -> float:
        """The ratio of medians, the median of the runs."""
        return statistics.median(self.speedups[other])


class Journal:
    """A file of one record a line, with the settings that it was measured with. Lines of other settings are left alone.

    journal = Journal(Path("bench.jsonl"))
    settings = {"network": "resnet18", "size": 224, "threads": 2, "runs": 50}
    for _ in range(len(journal.records(settings)), 3):
        journal.append(settings, measure(subject))
    """

    def __init__(self, path: Path) -> None:
        """Errors (QuantizationError):

        a file that is something else. A last line that an interruption cut is dropped.
        """
        self.path = path
        self._entries: list[tuple[dict[str, Any], Record]] = []
        try:
            self._file = JsonLines(path)
        except (OSError, ValueError) as error:
            raise QuantizationError(f"{path} cannot be read as JSON lines ({error}): give another file") from error
        for number, line in enumerate(self._file.lines, 1):
            try:
                entry = json.loads(line)
                self._entries.append((dict(entry["settings"]), Record.from_dict(entry["record"])))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise QuantizationError(
                    f"{path}, line {number}: no record of lsq-export bench; give another file, or remove the line"
                ) from error

    def records(self, settings: Mapping[str, Any]) -> list[Record]:
        """Those measured with exactly these settings, in the order of the file."""
        return [record for found, record in self._entries if found == dict(settings)]

    def append(self, settings: Mapping[str, Any], record: Record) -> None:
        """Write one line. settings: plain values. Errors (QuantizationError): the file cannot be written."""
        self._file.append(
            json.dumps({"settings": dict(settings), "record": record.to_dict()}, allow_nan=False, ensure_ascii=False)
            + "\n"
        )
        self._entries.append((dict(settings), record))


def summarize(records: Sequence[Record]) -> list[Summary]:
    """One summary a network, in the order in which they first appear."""
    by_network: dict[str, list[Record]] = {}
    for record in records:
        by_network.setdefault(record.network, []).append(record)
    found = []
    for network, runs in by_network.items():
        shared = [name for name in runs[0].speedups if all(name in run.speedups for run in runs)]
        found.append(Summary(network, len(runs), {name: [run.speedups[name] for run in runs] for name in shared}))
    return found
