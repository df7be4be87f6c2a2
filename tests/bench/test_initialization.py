"""init-speed: what is extrapolated from what, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lsq_export.bench import initialization as init_speed
from lsq_export.bench.initialization import measure
from support.commands import invoke


def test_rows_and_shares() -> None:
    result = measure("tiny", batches=(1, 2), batch=4, size=32, images=1001, rounds=2, steps=2, threads=1)
    assert [(row.batches, row.weights) for row in result.rows] == [(1, "lsq+"), (1, "mse"), (2, "lsq+"), (2, "mse")]
    assert result.epoch_seconds == pytest.approx(result.step_ms / 1e3 * math.ceil(1001 / 4))
    for row in result.rows:
        assert row.share == row.seconds / result.epoch_seconds and row.seconds >= row.median_seconds > 0


def test_a_slow_initialization_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both clocks are those of the thing they name:

    time that passes inside initialize is in seconds and not in the step.
    """
    now = [0.0]
    monkeypatch.setattr(init_speed.time, "perf_counter", lambda: now[0])
    real = init_speed.initialize

    def slow(*arguments: object, **options: object) -> None:
        real(*arguments, **options)  # type: ignore[arg-type]
        now[0] += 30

    def steps(*arguments: object) -> list[float]:
        now[0] += 7
        return [9.0, 2.0, 2.0]

    monkeypatch.setattr(init_speed, "initialize", slow)
    monkeypatch.setattr(init_speed, "_steps", steps)
    result = measure("tiny", batch=4, size=32, images=400, rounds=1, steps=2, threads=1)
    assert result.epoch_seconds == 200 and [row.share for row in result.rows] == [0.15, 0.15]


def test_command(tmp_path: Path) -> None:
    options = [
        "--model",
        "tiny",
        "--batch",
        "4",
        "--rounds",
        "1",
        "--steps",
        "1",
        "--threads",
        "1",
        "--granularity",
        "channel",
    ]
    result = invoke("init-speed", *options, "--json", str(tmp_path / "init.json"))
    assert result.exit_code == 0, result.output
    assert "tiny W4A4 per channel, batch 4, 32×32" in result.stdout
    found = json.loads((tmp_path / "init.json").read_text())
    assert found["images"] == 50_000 and [row["weights"] for row in found["rows"]] == ["lsq+", "mse"]
    refused = invoke("init-speed", *options, "--json", str(tmp_path / "no" / "init.json"))
    assert refused.exit_code == 2 and "cannot be written" in refused.stderr
