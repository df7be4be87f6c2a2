"""Time and memory of large networks: `PYTHONPATH=tests python -m large [--only branches|check|memory] [--size GB]`.

A line of JSON each, in a process of its own: seconds of `export` of 356 branches in 48 layers, seconds of `check` of
EfficientNet-B0 at 224 x 224 after `prepare`, and the most memory of `export` of a perceptron, in sizes of its weights,
beyond what a small one takes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

import calib
import lsq_export
from lsq_export import models

from .networks import WIDTH, many_branches, perceptron

SIZE = 2.4  # GB


@contextmanager
def timed(found: dict[str, object]) -> Iterator[None]:
    """Seconds on the clock, and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    yield
    found.update(seconds=round(time.perf_counter() - clock, 2), cpu=round(time.process_time() - processor, 2))


def branches(size: float) -> dict[str, object]:
    """Export of 356 branches."""
    x, found = torch.randn(8, 3, 32, 32), dict[str, object]()
    model = lsq_export.prepare(many_branches())
    calib.initialize(model, [x], method="minmax")
    with tempfile.TemporaryDirectory() as folder, timed(found):
        bundle = lsq_export.export(model, x[:1], Path(folder, "out"), calibration=[x])
    assert bundle.parity is not None
    return {**found, "promises": bundle.parity.ok}


def check(size: float) -> dict[str, object]:
    """check of EfficientNet-B0."""
    found: dict[str, object] = {}
    model = lsq_export.prepare(models.build("efficientnet_b0", num_classes=1000))
    with timed(found):
        outlook = lsq_export.check(model, torch.zeros(1, 3, 224, 224))
    return {**found, "lines": len(outlook.entries), "of source": sum(bool(entry.source) for entry in outlook.entries)}


def memory(size: float) -> dict[str, object]:
    """Export of a perceptron."""
    found: dict[str, object] = {}
    _exported(nn.Sequential(nn.Linear(8, 8), nn.ReLU()).eval(), 8)
    before = _peak()
    with timed(found):
        weights = _exported(perceptron(size), WIDTH)
    return {**found, "weights_gb": weights / 1e9, "times": round((_peak() - before) / weights, 2)}


def _exported(net: nn.Module, width: int) -> int:
    """Bytes of the weights."""
    size, model, x = sum(p.nbytes for p in net.parameters()), lsq_export.prepare(net), torch.randn(4, width)
    net.to("meta")  # its weights are in memory once
    calib.initialize(model, [x], method="minmax")
    with tempfile.TemporaryDirectory() as folder:
        bundle = lsq_export.export(model, x[:1], Path(folder, "out"), calibration=[x])
    assert bundle.parity is not None and bundle.parity.ok, bundle.parity
    return size


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


PARTS: dict[str, Callable[[float], dict[str, object]]] = {"branches": branches, "check": check, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m large", description="Time and memory of large networks.")
    parser.add_argument("--only", choices=PARTS, help="measure this alone")
    parser.add_argument("--size", type=float, default=SIZE, help="GB of weights of the perceptron")
    given = parser.parse_args()
    if given.only:
        torch.manual_seed(0)
        print(json.dumps({"measured": given.only, **PARTS[given.only](given.size)}), flush=True)
        return
    for part in PARTS:
        command = [sys.executable, "-W", "ignore", "-m", "large", "--only", part, "--size", str(given.size)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
