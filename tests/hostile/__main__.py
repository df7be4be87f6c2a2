"""Damage and forge files for every command that reads them: python -m hostile [--count 10000] [--record FILE]

0 tracebacks, 0 exit codes 70, 0 hangs (60 s), 0 crashes, nothing above 4 GB, nothing opened outside of the case; each
refusal is lines of which the last says why. What is accepted has to be of a kind that is known to be harmless, and is
listed with the reason. The exit code is 1 if anything is found. A record is continued where it ended.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is imported
os.environ["OMP_NUM_THREADS"] = "1"

import torch

from .base import make_base
from .cases import OUTSIDE
from .judge import judged, print_result
from .worker import Outcome, Worker


def main() -> int:
    parser = argparse.ArgumentParser(prog="hostile", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument(
        "--record", type=Path, help="one line of JSON for each case; those that it has are not run again"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = _known(options.record)
    outcomes = [known[seed] for seed in range(options.first, options.first + options.count) if seed in known]
    end = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory(prefix="hostile-base-") as name:
        base = Path(name)
        in_a_child(lambda: make_base(base))
        (base / OUTSIDE).write_text("of somebody else")
        before = {path: path.read_bytes() for path in base.rglob("*") if path.is_file()}
        worker = Worker(base)
        try:
            for seed in range(options.first, options.first + options.count):
                if seed in known:
                    continue
                if time.monotonic() > end:
                    break
                outcomes.append(outcome := worker.run(seed))
                _keep(options.record, outcome)
                if problem := judged(outcome):
                    print(
                        f"{problem}: seed {seed}, {outcome.command}, {outcome.kind}\n    {outcome.text[-600:]}",
                        flush=True,
                    )
        finally:
            worker.stop()
        changed = [str(path) for path, content in before.items() if path.read_bytes() != content]
    return print_result(outcomes, changed)


def in_a_child(work: object) -> None:
    """Run in a process of its own: threads that libraries start would not survive the forks to come."""
    process = os.fork()
    if not process:
        code = 1
        try:
            work()  # type: ignore[operator]
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    if os.waitpid(process, 0)[1]:
        sys.exit("the sound files cannot be made")


def _known(record: Path | None) -> dict[int, Outcome]:
    if record is None or not record.exists():
        return {}
    lines = [json.loads(line) for line in record.read_text().splitlines() if line.endswith("}")]
    return {line["seed"]: Outcome(**{**line, "foreign": tuple(line["foreign"])}) for line in lines}


def _keep(record: Path | None, outcome: Outcome) -> None:
    if record is not None:
        with record.open("a") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
