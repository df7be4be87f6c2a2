"""Run the comparison: `PYTHONPATH=tests python -m real [names …] [--record FILE] [--docs DIRECTORY] [--work FOLDER]`.

A line of JSON for each network goes to the record as it is done; those that it has are not run again. With --docs,
real.md and real.json are written from it. Virtual environments and files are kept in the work folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from .environments import networks, peers
from .measure import as_json, measured
from .networks import NETWORKS
from .table import write_docs


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m real", description="Calibrate networks of public packages.")
    parser.add_argument("names", nargs="*", help="networks; all, if none is named")
    parser.add_argument("--record", type=Path, help="one line of JSON for each network; it goes on where it ended")
    parser.add_argument("--docs", type=Path, help="write real.md and real.json there")
    parser.add_argument("--work", type=Path, default=Path(".cache/real"), help="virtual environments and files")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in NETWORKS]
    if unknown:
        parser.error(f"no such network: {', '.join(unknown)}")
    wanted = given.names or list(NETWORKS)
    known = _recorded(given.record)
    todo = [name for name in wanted if name not in known]
    folder = given.work.absolute()
    pythons = (networks(folder / "networks"), peers(folder / "peers")) if todo else None
    for name in todo:
        assert pythons is not None
        line = as_json(measured(name, folder, *pythons))
        known[name] = json.loads(line)
        print(line, flush=True)
        if given.record:
            with given.record.open("a") as file:
                file.write(line + "\n")
    if given.docs:
        write_docs([known[name] for name in wanted], given.docs)


def _recorded(path: Path | None) -> dict[str, dict[str, Any]]:
    lines = path.read_text().splitlines() if path is not None and path.exists() else []
    return {record["name"]: record for record in map(json.loads, lines)}


if __name__ == "__main__":
    main()
