"""`PYTHONPATH=tests python -m after --python VENV/bin/python [TOOL …] [--home DIRECTORY] [--docs DIRECTORY]`.

Each tool (tools/) is run over each file, and what it wrote is compared with the file before in ONNX Runtime
(compare.py), in processes of the interpreter that has the tools (requirements.txt). A line of JSON for each goes to
HOME/record.jsonl as it is done; those that it has are not run again. With --docs, the table of after.md is written.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from .networks import FILES, NETWORKS, exported, images
from .table import write_docs

HERE = Path(__file__).parent
SECONDS = 300
ALONE = {**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(HERE)}
Entry = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m after", description="Run tools over exported files.")
    parser.add_argument("tools", nargs="*", help="names, as --list of tools has them; all, if none is given")
    parser.add_argument("--python", type=Path, required=True, help="an interpreter that has the tools")
    parser.add_argument("--home", type=Path, default=Path(".cache/after"), help="what is kept")
    parser.add_argument("--docs", type=Path, help="write the table into after.md there")
    given = parser.parse_args()
    home: Path = given.home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    record = home / "record.jsonl"
    known = {(entry["tool"], entry["network"], entry["file"]): entry for entry in _recorded(record)}
    tools = _tools(given.python)
    for tool in given.tools or tools:
        for key in ((tool, network, f"{target} {name}") for network in NETWORKS for target, name in FILES):
            if key not in known:
                known[key] = {
                    **dict(zip(("tool", "network", "file"), key, strict=True)),
                    **run(given.python, home, *key),
                }
                print(json.dumps(known[key]), flush=True)
                with record.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(known[key]) + "\n")
    if given.docs:
        write_docs([*known.values()], tools, given.docs)
    return 0


def run(python: Path, home: Path, tool: str, network: str, file: str) -> Entry:
    """{"default": …, "disabled": …} of compare.py, or {"refused": what the tool says}."""
    target, _, name = file.partition(" ")
    bundle = exported(network, target, home / "bundles" / f"{network}-{target}")
    codes = list(dict.fromkeys(tensor["codes"] for tensor in bundle.manifest["tensors"]))
    (home / "codes.json").write_text(json.dumps(codes), encoding="utf-8")
    np.savez(home / "feeds.npz", x=images(2).numpy())
    written = home / "written" / tool / f"{network}-{target}-{name}"
    written.mkdir(parents=True, exist_ok=True)
    done = _child(python, "-m", "tools", tool, bundle.models[name], written / "model.onnx")
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith((" ", "Traceback"))]
        errors = [line for line in lines if "Command '" not in line] or [f"exit code {done.returncode}"]
        return {"refused": errors[-1][:300]}
    after = done.stdout.splitlines()[-1]
    compared = _child(python, HERE / "compare.py", bundle.models[name], after, home / "feeds.npz", home / "codes.json")
    answer: Entry = json.loads(compared.stdout.splitlines()[-1])
    return answer


def _child(python: Path, *command: object) -> subprocess.CompletedProcess[str]:
    line = [str(python.absolute()), "-W", "ignore", *map(str, command)]
    with TemporaryDirectory() as folder:  # some tools leave files where they are run
        return subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, env=ALONE, cwd=folder, check=False)


def _tools(python: Path) -> dict[str, tuple[str, str]]:
    """{tool: (what it is, with the options that are given; package and version)}."""
    done = _child(python, "-m", "tools", "--list")
    return {name: (text, package) for name, text, package in json.loads(done.stdout)}


def _recorded(path: Path) -> Iterator[Entry]:
    if path.exists():
        yield from (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


if __name__ == "__main__":
    sys.exit(main())
