"""This project quantizes one network, as one command does it: python -m real.ours ours DIRECTORY

Writes the bundle ours/ and ours.json beside the network.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lsq_export

from .files import load
from .networks import NETWORKS


def batches(directory: Path) -> Iterator[Any]:
    """The samples of the calibration, in batches; a tensor where there is one input."""
    for batch in NETWORKS[directory.name].calibration(load(directory / "calibration.npz")):
        part = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}
        yield part if len(part) > 1 else next(iter(part.values()))


def main(way: str, folder: str) -> None:
    directory, wall, cpu = Path(folder), time.perf_counter(), time.process_time()
    network = lsq_export.calibrate(directory / "float.onnx", batches(directory))
    calibrated = time.process_time() - cpu
    out = directory / way
    bundle = lsq_export.export(network, None, out, calibration=batches(directory), force=True, sample=False)
    assert bundle.parity is not None
    found = {
        "cpu": time.process_time() - cpu,
        "calibrate_cpu": calibrated,
        "seconds": time.perf_counter() - wall,
        "promises": bundle.parity.ok,
        "images": bundle.parity.images,
        "differing": int(bundle.parity.formats["qoperator"].reference_mismatch),
        "multiplications": bundle.manifest.get("multiplications"),
        "islands": Counter(island["operator"] for island in bundle.manifest["islands"]),
        "left": [str(layer) for layer in network.left],
    }
    (directory / f"{way}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    warnings.simplefilter("default")
    main(*sys.argv[1:])
