"""Run the zoo: `PYTHONPATH=tests python -m zoo [names …] [--bits 8 4] [--jobs 2] [--record FILE] [--docs DIRECTORY]`.

A line of JSON for each network and width goes to the record as it is done; those that it has are not run again. With
--docs, the table zoo.md and zoo.json are written from it. Exit code 1: a network is not good.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from .jobs import load, runs
from .registry import NETWORKS
from .run import Result
from .table import write_docs


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m zoo", description="Export the networks of the zoo.")
    parser.add_argument("names", nargs="*", help="networks; all, if none is named")
    parser.add_argument("--bits", nargs="+", type=int, default=[8, 4])
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--record", type=Path, help="one line of JSON for each run; it goes on where it ended")
    parser.add_argument("--docs", type=Path, help="write zoo.md and zoo.json there")
    parser.add_argument("--from", dest="modules", action="append", default=[], help="a module with more networks")
    given = parser.parse_args(arguments)
    load(given.modules)
    unknown = [name for name in given.names if name not in NETWORKS]
    if unknown:
        parser.error(f"no such network: {', '.join(unknown)}")
    wanted = [(name, bits) for name in given.names or NETWORKS for bits in given.bits]
    known = {(result.name, result.bits): result for result in _recorded(given.record)}
    todo = [(name, bits) for name, bits in wanted if (name, f"W{bits}A{bits}") not in known]
    commit = _commit()
    for result in runs(todo, given.jobs, given.modules):
        result.commit = commit
        known[result.name, result.bits] = result
        print(line(result), flush=True)
        if given.record:
            with given.record.open("a") as file:
                file.write(json.dumps(asdict(result)) + "\n")
    results = [known[name, f"W{bits}A{bits}"] for name, bits in wanted]
    if given.docs:
        write_docs(results, given.docs)
    good = sum(result.kind == "good" for result in results)
    print(f"{good} of {len(results)} good")
    return 0 if good == len(results) else 1


def _commit() -> str:
    """Of the code that runs, with a plus sign if it was changed since."""
    said = subprocess.run(["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False)
    return said.stdout.strip()


def _recorded(path: Path | None) -> Iterator[Result]:
    if path is not None and path.exists():
        yield from (Result(**json.loads(text)) for text in path.read_text().splitlines())


def line(result: Result) -> str:
    """One result on one line."""
    head = f"{result.kind:8} {result.name:18} {result.bits} {result.total:5.1f} s"
    if result.sqnr is None or result.yardstick is None or result.integer is None:
        return f"{head}  {result.stage}: {(result.refusal or result.crash).splitlines()[0][:150]}  [{result.where}]"
    islands = sum(result.islands.values())
    found = f"{result.sqnr:.1f} dB (yardstick {result.yardstick:.1f}), {result.integer:.1%} integer, {islands} islands"
    return f"{head}  {found}{''.join('; ' + failure[:150] for failure in result.failures[:2])}"


if __name__ == "__main__":
    sys.exit(main())
