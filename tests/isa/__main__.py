"""Run every case on every machine and compare every tensor with the integer reference: python -m isa [MACHINE …]

The exit code is 0 if nothing differs but what must differ, 1 if something does, 2 if a machine cannot be had.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

from .cases import Case, cases
from .compare import Outcome, compare, prepare
from .machines import MACHINES, MissingError

CACHE = Path(__file__).parents[2] / ".cache/isa"


def main(names: list[str]) -> int:
    if {"-h", "--help"} & set(names):
        print(__doc__, *(f"{name:12}{what}" for name, (what, _) in MACHINES.items()), sep="\n")
        return 0
    unknown = sorted(set(names) - set(MACHINES))
    if unknown:
        print(f"error: unknown machine {unknown[0]}: use {', '.join(MACHINES)}", file=sys.stderr)
        return 2
    try:
        workers = {name: make(CACHE) for name, (_, make) in MACHINES.items() if name in (names or MACHINES)}
    except MissingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    started = time.perf_counter()
    every = cases()
    jobs = CACHE / "jobs"
    shutil.rmtree(jobs, ignore_errors=True)
    prepare(every, jobs)
    count = len(json.loads((jobs / "jobs.json").read_text()))
    print(f"{len(every)} models, {count} sessions each: made in {time.perf_counter() - started:.1f} s")
    outcomes: dict[str, list[Outcome]] = {}
    for name, worker in workers.items():
        started = time.perf_counter()
        said = worker.run(jobs.resolve())
        outcomes[name] = [compare(case, jobs) for case in every]
        print(f"{name}: {MACHINES[name][0]}, {said}, {time.perf_counter() - started:.1f} s")
    _print_table(every, outcomes)
    failures = [
        f"FAILED {name} {case.name}: {outcome.differing} of {outcome.elements} elements differ, first in "
        f"{outcome.first or '-'}"
        for name, of_machine in outcomes.items()
        for case, outcome in zip(every, of_machine, strict=True)
        if bool(outcome.differing) != (name in case.differs_on)
    ]
    print("\n".join([*failures, f"{len(every) * len(outcomes) - len(failures)} passed, {len(failures)} failed"]))
    return 1 if failures else 0


def _print_table(every: list[Case], outcomes: dict[str, list[Outcome]]) -> None:
    """Differing elements by kind of case and machine; `must` marks those that have to be there."""
    print(f"\n{'differing elements':32} {'models':>6} {'elements':>10}" + "".join(f"{name:>14}" for name in outcomes))
    for kind in dict.fromkeys(case.kind for case in every):
        at = [i for i, case in enumerate(every) if case.kind == kind]
        cells = []
        for name, of_machine in outcomes.items():
            must = any(name in every[i].differs_on for i in at)
            cells.append(f"{sum(of_machine[i].differing for i in at):,}{' (must)' if must else ''}")
        elements = sum(next(iter(outcomes.values()))[i].elements for i in at)
        print(f"{kind:32} {len(at):6} {elements:10,}" + "".join(f"{cell:>14}" for cell in cells))
    print()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
