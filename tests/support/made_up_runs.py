"""Results of runs that nobody ran, and settings that take a second: for tests of the paper's tables."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from models.paper.digits import HardDigits
from models.paper.plan import Phase, Run, Settings
from models.paper.record import Record, Result

ROOT = Path(__file__).parents[2]
SMALL = Settings(
    phase=Phase(1, 0.03, 16, 1.0),
    float_phase=Phase(4, 0.05, 16, 0.0),
    hard=HardDigits(train_per_class=12, test_copies=1),
    init_batches=1,
)
ONE = Run("tiny", 2, "4", "mse", 0)


def result(run: Run, trained: float, *, settings: Settings = SMALL, diverged: str | None = None) -> Result:
    """A made-up result."""
    return Result(
        **asdict(run),
        float_accuracy=0.9,
        initialized=0.5,
        trained=trained,
        train_accuracy=0.7,
        diverged=diverged,
        epochs=1,
        seconds=36.0,
        cpu_seconds=18.0,
        settings=settings,
        commit="abc",
        versions={"torch": "2"},
        machine="a machine",
    )


def recorded(path: Path, results: Sequence[Result]) -> Record:
    """A record of these results."""
    record = Record(path, {})
    for item in results:
        record.append(item)
    return record


def help_of(module: str) -> str:
    """What `python -m MODULE --help` prints; it imports nothing heavy."""
    code = (
        "import sys; sys.argv = ['x', '--help']; import runpy\n"
        f"try: runpy.run_module('{module}', run_name='__main__')\n"
        "except SystemExit as stop: assert not stop.code\n"
        "print('heavy:', *{'torch', 'numpy', 'scipy', 'matplotlib', 'onnx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "heavy:"
    return done.stdout
