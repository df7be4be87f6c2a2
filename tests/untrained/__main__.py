"""Run the comparison: `PYTHONPATH=tests python -m untrained [networks …] [--record FILE] [--docs DIRECTORY]`.

A line of JSON for each way goes to the record as it is done; those that it has are not run again. With --docs, ptq.md
and ptq.json are written from it. Float networks are trained once, and kept in the work folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from .table import write_docs

NETWORKS = ("resnet18", "efficientnet_b0")
FLOAT_EPOCHS = 10
WAYS = (
    (32, "float"),
    *((bits, way) for bits in (8, 4) for way in ("mse", "reconstruction")),
    (4, "QAT"),
    *((bits, way) for bits in (8, 4) for way in ("minmax", "percentile")),
)
ALONE = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m untrained", description="Quantize networks without training.")
    parser.add_argument("networks", nargs="*", default=NETWORKS, help="networks; all, if none is named")
    parser.add_argument(
        "--record", type=Path, default=Path(".cache/ptq/runs.jsonl"), help="a line of JSON for each way"
    )
    parser.add_argument("--docs", type=Path, help="write ptq.md and ptq.json there")
    parser.add_argument("--work", type=Path, default=Path(".cache/ptq"), help="float networks")
    given = parser.parse_args()
    known = _recorded(given.record)
    for name in given.networks:
        for bits, way in WAYS:
            if (name, bits, way) not in known:
                line = _run("untrained.run", name, str(bits), way, str(_float(name, given.work)))
                print(line, flush=True)
                with given.record.open("a") as file:
                    file.write(line + "\n")
    if given.docs:
        write_docs(list(_recorded(given.record).values()), given.docs)


def _float(name: str, folder: Path) -> Path:
    """The float network, trained if there is none."""
    path = folder / f"{name}-float.safetensors"
    if not path.exists():
        short = (
            "--data",
            "digits",
            "--float-epochs",
            str(FLOAT_EPOCHS),
            "--epochs",
            "0",
            "--seed",
            "0",
            "--threads",
            "1",
        )
        out = folder / f"{name}.safetensors"
        _run("lsq_export", "train", "--model", name, *short, "--float-out", str(path), "--out", str(out), "--force")
    return path


def _run(module: str, *arguments: str) -> str:
    """The last line that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, check=True, env=ALONE
    )
    return done.stdout.splitlines()[-1] if done.stdout else ""


def _recorded(path: Path) -> dict[tuple[str, int, str], dict[str, Any]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else []
    return {(run["network"], run["bits"], run["way"]): run for run in map(json.loads, lines)}


if __name__ == "__main__":
    main()
