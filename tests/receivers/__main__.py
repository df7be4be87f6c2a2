"""`PYTHONPATH=tests python -m receivers --python VENV/bin/python [NETWORK …] [--home DIRECTORY] [--docs DIRECTORY]`.

A network, such as tiny-w4a4, is trained on digits once, and exported for each target. A line of JSON for each file in
each runtime goes to HOME/record.jsonl as it is done; those that it has are not run again. With --docs, receivers.md and
receivers.json are written from it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lsq_export
from lsq_export.replaying import runtime

from .table import write_docs

NETWORKS = ("tiny-w4a4", "tiny-w8a8", "resnet18-w4a4", "resnet18-w8a8")
FOR_ALL = ("ort-cpu", "portable")  # targets whose files every runtime is given, besides those of its own
Entry = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m receivers", description="Replay networks in runtimes.")
    parser.add_argument("networks", nargs="*", default=NETWORKS, help="NAME-wBITSaBITS")
    parser.add_argument("--home", type=Path, default=Path(".cache/receivers"), help="what is kept")
    parser.add_argument("--python", type=Path, required=True, help="an interpreter that has the runtimes")
    parser.add_argument("--timeout", type=float, default=300, help="seconds of a run")
    parser.add_argument("--docs", type=Path, help="write receivers.md and receivers.json there")
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)
    record = given.home / "record.jsonl"
    known = {key(entry): entry for entry in recorded(record)}
    for network in given.networks:
        for target in dict.fromkeys([*FOR_ALL, *(one.target for one in runtime.everything())]):
            wanted = [one.name for one in runtime.everything() if target in (*FOR_ALL, one.target)]
            wanted = [name for name in wanted if (network, target, name) not in {part[:3] for part in known}]
            if not wanted:
                continue
            bundle = exported(given.home, network, target)
            with record.open("a", encoding="utf-8") as file:
                for run in lsq_export.replay(bundle, wanted, python=given.python, timeout=given.timeout).runs:
                    entry = {"network": network, **json.loads(json.dumps(asdict(run), default=str))}
                    known[key(entry)] = entry
                    file.write(json.dumps(entry) + "\n")
                    print(network, target, run.runtime, run.file, run.verdict, run.line, flush=True)
    if given.docs:
        write_docs([entry for entry in known.values() if entry["network"] in given.networks], given.docs)
    return 0


def key(entry: Entry) -> tuple[str, ...]:
    return entry["network"], entry["target"], entry["runtime"], entry["file"]


def recorded(path: Path) -> Iterator[Entry]:
    if path.exists():
        yield from (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def exported(home: Path, network: str, target: str) -> Path:
    """The bundle of a network for a target, made where it is not there."""
    name, _, bits = network.partition("-w")
    weights, _, activations = bits.partition("a")
    checkpoint, floats, bundle = home / f"{network}.safetensors", home / f"{name}-float.safetensors", home / "bundles"
    if not checkpoint.exists():
        first = ["--float-checkpoint" if floats.exists() else "--float-out", floats]
        widths = ["--weight-bits", weights, "--activation-bits", activations]
        command("train", "--model", name, "--data", "digits", *widths, *first, "--out", checkpoint)
    bundle.mkdir(exist_ok=True)
    if not (bundle / f"{network}-{target}").exists():
        command("export", checkpoint, "--target", target, "--out", bundle / f"{network}-{target}")
    return bundle / f"{network}-{target}"


def command(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "lsq_export", *map(str, arguments)], check=True)


if __name__ == "__main__":
    sys.exit(main())
