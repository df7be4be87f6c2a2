"""Run the zoo: `PYTHONPATH=tests python -m zoo [names …] [--bits 8 4] [--record FILE] [--from MODULE]`.

A line of JSON for each network and width goes to the record as it is done; a table of what is wrong is printed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from support.exporter import operator_tables_made_once

from .registry import NETWORKS
from .run import Result, run


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m zoo", description="Export the networks of the zoo.")
    parser.add_argument("names", nargs="*", help="networks; all, if none is named")
    parser.add_argument("--bits", nargs="+", type=int, default=[8, 4])
    parser.add_argument("--record", type=Path, help="append lines of JSON to this file")
    parser.add_argument("--from", dest="modules", action="append", default=[], help="a module with more networks")
    parser.add_argument("--only-from", action="store_true", help="those of --from alone")
    given = parser.parse_args(arguments)
    own = set(NETWORKS)
    for module in given.modules:
        importlib.import_module(module)
    names = given.names or [name for name in NETWORKS if not (given.only_from and name in own)]
    unknown = [name for name in names if name not in NETWORKS]
    if unknown:
        parser.error(f"no such network: {', '.join(unknown)}")
    results = []
    with operator_tables_made_once():
        for name in names:
            for bits in given.bits:
                results.append(run(NETWORKS[name], bits))
                print(line(results[-1]), flush=True)
                if given.record:
                    with given.record.open("a") as file:
                        file.write(json.dumps({"kind": results[-1].kind, **asdict(results[-1])}) + "\n")
    good = sum(result.kind == "good" for result in results)
    print(f"{good} of {len(results)} good")
    return 0 if good == len(results) else 1


def line(result: Result) -> str:
    """One result on one line."""
    head = f"{result.kind:8} {result.name:18} {result.bits} {sum(result.seconds.values()):5.1f} s"
    if result.sqnr is None:
        return f"{head}  {result.stage}: {(result.refusal or result.crash).splitlines()[0][:150]}  [{result.where}]"
    islands = sum(result.islands.values())
    found = f"{result.sqnr:.1f} dB (yardstick {result.yardstick:.1f}), {result.integer:.1%} integer, {islands} islands"
    return f"{head}  {found}{''.join('; ' + failure[:150] for failure in result.failures[:2])}"


if __name__ == "__main__":
    sys.exit(main())
