"""The record: JSON lines, one for each run. A killed series goes on after the last whole line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calib.errors import QuantizationError, one_line
from lsq_export.files.json_lines import JsonLines

from .plan import Run, Settings


@dataclass(frozen=True, kw_only=True)
class Result:
    """Accuracies (top-1 on the test images, 0-1) of a run, and what it took.

    float_accuracy         accuracy of the float model that it starts from
    initialized, trained   accuracy of the low-bit model before and after training
    train_accuracy         accuracy on the training images, in the last epoch
    diverged               why training stopped; `trained` is then the accuracy of the last good epoch
    seconds, cpu_seconds   wall time and processor time of the run, without the float model
    commit                 None outside of git
    """

    network: str
    bits: int
    configuration: str
    init: str
    seed: int
    float_accuracy: float
    initialized: float
    trained: float
    train_accuracy: float | None
    diverged: str | None
    epochs: int
    seconds: float
    cpu_seconds: float
    settings: Settings
    commit: str | None
    versions: dict[str, str]
    machine: str

    @property
    def run(self) -> Run:
        """What was run."""
        return Run(self.network, self.bits, self.configuration, self.init, self.seed)


class Record:
    """The file of a series.

        record = Record(Path("runs.jsonl"), {"resnet18": settings})
        todo = [run for run in plan() if run not in record.done]
        record.append(result)

    A file with runs of resnet18 that were made with other settings is refused.
    """

    def __init__(self, path: Path, settings: Mapping[str, Settings] | None = None) -> None:
        """Read the file. A last line that an interruption cut is dropped.

        settings: what the networks of the series are measured with; None: only read the file, which must exist.

        Errors (QuantizationError): no record (where one must exist), another kind of file, other settings, the same run
        twice.
        """
        self.path = path
        self._expected = dict(settings or {})
        self._file = self._open(required=settings is None)
        self.results: list[Result] = []
        for number, line in enumerate(self._file.lines, 1):
            self._add(_result(f"{path}, line {number}", line), f"{path}, line {number}")
        if settings is None and not self.results:
            raise QuantizationError(f"{path} is empty: no run of the tables is recorded in it yet")

    @property
    def done(self) -> set[Run]:
        """Runs that need not be run again."""
        return {result.run for result in self.results}

    @property
    def settings(self) -> dict[str, Settings]:
        """{network: settings of its runs}."""
        return {result.network: result.settings for result in self.results}

    @property
    def lines(self) -> list[str]:
        """What the file holds."""
        return [json.dumps(asdict(result), allow_nan=False, ensure_ascii=False) + "\n" for result in self.results]

    def append(self, result: Result) -> None:
        """Write one line. Errors (QuantizationError): the file cannot be written, or holds this run."""
        self._add(result, str(self.path))
        self._file.append(self.lines[-1])

    def _open(self, required: bool) -> JsonLines:
        try:
            if required:
                self.path.stat()
            return JsonLines(self.path)
        except (OSError, ValueError) as error:
            torn = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else one_line(error)
            reason = error.strerror if isinstance(error, OSError) else torn
            raise QuantizationError(
                f"record {self.path} cannot be read ({reason}): give the file of a series of runs"
            ) from error

    def _add(self, result: Result, where: str) -> None:
        expected = self._expected.setdefault(result.network, result.settings)
        if result.settings != expected:
            differences = _differences(result.settings.to_dict(), expected.to_dict())
            raise QuantizationError(
                f"{where}: the settings of {result.network} differ ({differences}): give another file with --record, "
                "or the same settings"
            )
        if result.run in self.done:
            raise QuantizationError(f"{where}: {result.run} is there already; remove the line")
        self.results.append(result)


def _result(where: str, line: str) -> Result:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise QuantizationError(
            f"{where}: no JSON ({error}); give another file with --record, or remove the line"
        ) from error
    try:
        result = Result(**{**values, "settings": Settings.from_dict(values["settings"])})
    except (TypeError, KeyError, AttributeError) as error:
        raise QuantizationError(
            f"{where}: no run of the tables; give another file with --record, or remove the line"
        ) from error
    for name in ("float_accuracy", "initialized", "trained"):
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise QuantizationError(f"{where}: {name} is {value!r}, not an accuracy of 0 to 1; remove the line")
    return result


def _differences(settings: dict[str, Any], expected: dict[str, Any]) -> str:
    keys: Iterable[str] = dict.fromkeys([*settings, *expected])
    pairs = ((key, settings.get(key), expected.get(key)) for key in keys)
    return ", ".join(f"{key}: {value}, not {other}" for key, value, other in pairs if value != other)
