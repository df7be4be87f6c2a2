"""Kill commands at every kind of moment, and let their disks fill up: python -m kills [--kills 200] [--disks 40]

After each: what is there is whole (the old or the new), the next `verify` raises no false alarm, the next run ends well
and leaves nothing behind. The exit code is 1 if any of that fails.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is imported

import onnxruntime  # noqa: F401 (once, for all the processes that are forked)
import sklearn.datasets  # noqa: F401
import torch

import lsq_export.pipeline  # noqa: F401
from support.exporter import operator_tables_made_once

from .commands import Command, captured_once, commands, make_base
from .processes import Fate, disks, kills, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="kills", description=(__doc__ or "").split("\n\n")[0])
    for name, default in (("kills", 200), ("disks", 40), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", help="a command by its name")
    options = parser.parse_args()
    torch.set_num_threads(1)
    draw, started = random.Random(options.seed), time.perf_counter()
    failures: list[str] = []
    totals = options.kills, options.disks
    gc.disable()
    with ExitStack() as stack:
        stack.enter_context(operator_tables_made_once())
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="lsq-export-kills-"))
        make_base(Path(place) / "base")
        stack.enter_context(captured_once(Path(place) / "base"))
        every = [one for one in commands(Path(place) / "base") if options.only in (None, one.name)]
        for command in every:
            counts = (round(total * command.share / sum(one.share for one in every)) for total in totals)
            failures += _befall(command, Path(place), *counts, draw)
    print(*(f"FAILED {failure}" for failure in failures), sep="\n")
    print(f"about {totals[0]} kills, {totals[1]} disks: {len(failures)} failed, {time.perf_counter() - started:.0f} s")
    return 1 if failures else 0


def _befall(command: Command, place: Path, killed: int, full: int, draw: random.Random) -> list[str]:
    """Everything for one command; what failed."""
    usual_place = _fresh(command, place)
    usual = command.run(usual_place, Fate())
    assert usual.code in command.codes, usual.output
    ended: Counter[str] = Counter()
    failures = []
    waiting = [*kills(killed, usual, draw), *disks(full, usual, draw)]
    while waiting:
        fate, before = waiting.pop(0), ended["killed"]
        folder = _fresh(command, place)
        wrong = list(_wrong(command, folder, fate, ended))
        failures += [f"{command.name}, {fate}: {what}" for what in wrong]
        shutil.rmtree(folder)
        if fate.kind == "moment" and ended["killed"] == before:  # it had ended by then
            waiting.insert(0, Fate("moment", fate.at / 2))
    print(f"{command.name:26} {usual.changes:4} changes, {usual.seconds:5.1f} s  {dict(ended)}", flush=True)
    return failures


def _fresh(command: Command, place: Path) -> Path:
    folder = Path(tempfile.mkdtemp(dir=place))
    command.prepare(folder)
    return folder


def _wrong(command: Command, folder: Path, fate: Fate, ended: Counter[str]) -> Iterator[str]:
    """What is wrong after something befell the command, and after the next runs."""
    first = command.run(folder, fate)
    ended[f"exit {first.code}" if first.code >= 0 else "killed"] += 1
    if first.code >= 0:
        errors = [
            line for line in first.output.splitlines() if "Traceback" in line or "error of lsq-export itself" in line
        ]
        if first.code not in (*command.codes, 2) or errors:
            yield f"exit {first.code}: {' '.join(first.output[-300:].split())}"
    yield from command.check(folder)
    if command.bundle and (folder / command.bundle / "manifest.json").exists():
        alarm = run(["verify", command.bundle], folder, Fate())
        if alarm.code != 0 or "FAILED" in alarm.output:
            yield f"false alarm: {' '.join(alarm.output[-300:].split())}"
        yield from _left(folder / command.bundle)
    again = command.run(folder, Fate(), again=True)
    if again.code not in command.codes:
        yield f"the next run: exit {again.code}: {' '.join(again.output[-300:].split())}"
    yield from command.check(folder)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - command.ignored
    if found != command.files:
        yield f"after the next run: {sorted(found ^ command.files)}"
    yield from _left(folder)


def _left(folder: Path) -> Iterator[str]:
    left = [str(path.relative_to(folder)) for path in folder.rglob(".*") if path.suffix in (".tmp", ".old")]
    if left:
        yield f"left behind: {left}"


if __name__ == "__main__":
    sys.exit(main())
