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
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import lsq_export
from lsq_export import data

from .plan import EPOCHS, INSIDE, NETWORKS, Job, plan
from .table import write_docs

Entry = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m receivers", description="Replay networks in runtimes.")
    parser.add_argument("networks", nargs="*", default=NETWORKS, help="NAME-wBITSaBITS")
    parser.add_argument("--home", type=Path, default=Path(".cache/receivers"), help="what is kept")
    parser.add_argument("--python", type=Path, required=True, help="an interpreter that has the runtimes")
    parser.add_argument("--litert", type=Path, help="one that has onnx2tf, which does not fit beside the others")
    parser.add_argument("--timeout", type=float, default=600, help="seconds of a run")
    parser.add_argument("--runtime", nargs="*", help="these runtimes alone")
    parser.add_argument("--docs", type=Path, help="write receivers.md and receivers.json there")
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)
    record = given.home / "record.jsonl"
    known = {key(entry): entry for entry in recorded(record)}
    for job in plan(given.networks):
        done = {part[:4] for part in known}
        wanted = [name for name in job.runtimes if (job.network, job.target, job.images, name) not in done]
        wanted = [name for name in wanted if not given.runtime or name in given.runtime]
        for python, names in by_interpreter(given.python, given.litert, wanted).items():
            for entry in run(job, given.home, python, names, given.timeout):
                known[key(entry)] = entry
                with record.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")
    if given.docs:
        write_docs([entry for entry in known.values() if entry["network"] in given.networks], given.docs)
    return 0


def by_interpreter(python: Path, litert: Path | None, names: list[str]) -> dict[Path, list[str]]:
    """{interpreter: runtimes to run with it}."""
    others = [name for name in names if name != "litert"]
    rest = {litert or python: ["litert"]} if "litert" in names else {}
    return {**({python: others} if others else {}), **rest} if (litert or python) != python else {python: names}


def run(job: Job, home: Path, python: Path, names: list[str], timeout: float) -> Iterator[Entry]:
    """An entry for each file in each runtime, as it is done."""
    try:
        bundle = exported(home, job)
    except RefusedError as error:
        print(job.network, job.target, error, flush=True)
        yield from (refused(job, name, str(error)) for name in names)
        return
    inputs = images(job.images) if job.images else None
    for name in names:
        inside = INSIDE if job.images else True
        for one in lsq_export.replay(bundle, name, python=python, timeout=timeout, inputs=inputs, inside=inside).runs:
            print(
                job.network,
                job.target,
                one.runtime,
                one.file,
                one.verdict,
                f"{one.seconds:.0f} s",
                one.line,
                flush=True,
            )
            yield {"network": job.network, "data": job.images, **json.loads(json.dumps(asdict(one), default=str))}


class RefusedError(Exception):
    """A target does not take a network."""


def refused(job: Job, name: str, why: str) -> Entry:
    """The entry of a runtime whose target does not take the network."""
    known = {"network": job.network, "data": job.images, "target": job.target, "runtime": name, "file": "qdq"}
    nothing = {
        "version": "",
        "images": 0,
        "difference": None,
        "first": None,
        "inside": None,
        "instead": "",
        "seconds": 0.0,
    }
    return {**known, **nothing, "verdict": "not exported", "why": why}


def key(entry: Entry) -> tuple[Any, ...]:
    return entry["network"], entry["target"], entry.get("data", 0), entry["runtime"], entry["file"]


def recorded(path: Path) -> Iterator[Entry]:
    if path.exists():
        yield from (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


@cache
def images(most: int) -> np.ndarray:
    """Test images of digits, float32 [N, 3, 32, 32]."""
    return np.concatenate([batch[0].numpy() for batch in data.load("digits").batches("test")])[:most]


def exported(home: Path, job: Job) -> Path:
    """The bundle of a network for a target, made where it is not there."""
    name, _, bits = job.network.partition("-w")
    weights, _, activations = bits.partition("a")
    checkpoint, floats = home / f"{job.network}.safetensors", home / f"{name}-float.safetensors"
    if not checkpoint.exists():
        long, short = EPOCHS.get(job.network, (None, None))
        first: list[object] = ["--float-checkpoint" if floats.exists() else "--float-out", floats]
        first += ["--float-epochs", long] if long and not floats.exists() else []
        first += ["--epochs", short] if short else []
        widths = ["--weight-bits", weights, "--activation-bits", activations]
        command("train", "--model", name, "--data", "digits", *widths, *first, "--out", checkpoint, "--force")
    bundle = home / "bundles" / f"{job.network}-{job.target}{f'-{job.batch}' if job.batch else ''}"
    bundle.parent.mkdir(exist_ok=True)
    if not bundle.exists():
        batch = ["--batch", job.batch] if job.batch else []
        command("export", checkpoint, "--target", job.target, *batch, "--out", bundle)
    return bundle


def command(*arguments: object) -> None:
    """Errors (RefusedError): its last line."""
    done = subprocess.run([sys.executable, "-m", "lsq_export", *map(str, arguments)], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        raise RefusedError(lines[-1].removeprefix("error: ") if lines else f"exit code {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
