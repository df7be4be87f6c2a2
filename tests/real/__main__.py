"""Run the comparison: `PYTHONPATH=tests python -m real [names …] [--bits 4,8] [--record FILE] [--docs DIRECTORY]`.

A line of JSON for each network and bits goes to the record as it is done; those that it has are not run again. With
--docs, the part of real.md about these bits and its JSON are written from it; with --recorded as well, from the rows
that it has, and nothing is run. Virtual environments and files are kept in the work folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from .environments import networks, peers
from .files import EIGHT, Bits
from .measure import as_json, few_bits, measured
from .networks import NETWORKS
from .table import write_docs

Records = dict[tuple[str, str], dict[str, Any]]  # by the name of the network and its bits


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m real", description="Calibrate networks of public packages.")
    parser.add_argument("names", nargs="*", help="networks; all, if none is named")
    parser.add_argument("--bits", type=Bits.parse, action="append", help="of weights and activations; 8,8 by default")
    parser.add_argument("--record", type=Path, help="one line of JSON for each network; it goes on where it ended")
    parser.add_argument("--docs", type=Path, help="write real.md and its JSON there")
    parser.add_argument("--recorded", action="store_true", help="run nothing: the record is all")
    parser.add_argument("--work", type=Path, default=Path(".cache/real"), help="virtual environments and files")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in NETWORKS]
    if unknown:
        parser.error(f"no such network: {', '.join(unknown)}")
    every = [(name, bits) for bits in given.bits or [EIGHT] for name in given.names or NETWORKS]
    known = _recorded(given.record)
    todo = [(name, bits) for name, bits in every if (name, str(bits)) not in known and not given.recorded]
    folder = given.work.absolute()
    pythons = (networks(folder / "networks"), peers(folder / "peers")) if todo else None
    for name, bits in todo:
        assert pythons is not None
        found = measured(name, folder, *pythons) if bits == EIGHT else few_bits(name, folder, *pythons, bits)
        line = as_json(found)
        known[name, str(bits)] = json.loads(line)
        print(line, flush=True)
        if given.record:
            with given.record.open("a") as file:
                file.write(line + "\n")
    if given.docs:
        write_docs([known[name, str(bits)] for name, bits in every if (name, str(bits)) in known], given.docs)


def _recorded(path: Path | None) -> Records:
    lines = path.read_text().splitlines() if path is not None and path.exists() else []
    return {(record["name"], record.get("bits", str(EIGHT))): record for record in map(json.loads, lines)}


if __name__ == "__main__":
    main()
