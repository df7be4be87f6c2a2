"""init-speed: what is extrapolated from what, and the command."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lsq_export.bench import initialization, turns
from lsq_export.bench.initialization import InitSettings, measure_initialization
from support.commands import invoke


@pytest.mark.slow
def test_rows_and_shares() -> None:
    settings = InitSettings(batches=(1, 2), batch=4, size=32, images=1001, rounds=2, steps=2, threads=1)
    result = measure_initialization("tiny", settings)
    assert [(row.batches, row.weights) for row in result.rows] == [(1, "lsq+"), (1, "mse"), (2, "lsq+"), (2, "mse")]
    assert result.epoch_seconds == pytest.approx(result.step_ms / 1e3 * math.ceil(1001 / 4))
    for row in result.rows:
        assert row.share == row.seconds / result.epoch_seconds and row.seconds >= row.median_seconds > 0


@pytest.mark.slow
def test_a_slow_initialization_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both clocks are those of the thing they name: time inside initialize is in seconds, not in the step."""
    now = [0.0]
    monkeypatch.setattr(turns.time, "perf_counter", lambda: now[0])
    real = initialization.initialize

    def slow(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        now[0] += 30

    def step_maker(*arguments: object) -> Callable[[], None]:
        durations = iter([9, 2, 2])  # the first one does not count

        def step() -> None:
            now[0] += next(durations)

        return step

    monkeypatch.setattr(initialization, "initialize", slow)
    monkeypatch.setattr(initialization, "training_step", step_maker)
    settings = InitSettings(batch=4, size=32, images=400, rounds=1, steps=2, threads=1)
    result = measure_initialization("tiny", settings)
    assert result.epoch_seconds == 200 and [row.share for row in result.rows] == [0.15, 0.15]


@pytest.mark.slow
def test_command(tmp_path: Path) -> None:
    options = ["--model=tiny", "--batch=4", "--rounds=1", "--steps=1", "--threads=1", "--granularity=channel"]
    result = invoke("init-speed", *options, "--json", str(tmp_path / "init.json"))
    assert result.exit_code == 0, result.output
    assert "tiny W4A4 per channel, batch 4, 32×32" in result.stdout
    written = json.loads((tmp_path / "init.json").read_text())
    assert written["images"] == 50_000 and [row["weights"] for row in written["rows"]] == ["lsq+", "mse"]
    refused = invoke("init-speed", *options, "--json", str(tmp_path / "no" / "init.json"))
    assert refused.exit_code == 2 and "cannot be written" in refused.stderr
