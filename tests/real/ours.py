"""This project quantizes one network, as one command does it: python -m real.ours WAY DIRECTORY OUT BITS BITS

WAY: "ours", or a method. Writes the bundle WAY/ and WAY.json to OUT; BITS: of weights, and of activations.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lsq_export
from lsq_export.calibrating import DEFAULT

from .files import load
from .networks import NETWORKS


def batches(directory: Path) -> Iterator[Any]:
    """The samples of the calibration, in batches; a tensor where there is one input."""
    for batch in NETWORKS[directory.name].calibration(load(directory / "calibration.npz")):
        part = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}
        yield part if len(part) > 1 else next(iter(part.values()))


def main(way: str, given: str, folder: str, weight_bits: str, activation_bits: str) -> None:
    directory, out, wall, cpu = Path(given), Path(folder), time.perf_counter(), time.process_time()
    config = replace(DEFAULT, weight_bits=int(weight_bits), activation_bits=int(activation_bits))
    method = "mse" if way == "ours" else way
    network = lsq_export.calibrate(directory / "float.onnx", batches(directory), config, method=method)
    calibrated = time.process_time() - cpu
    formats = None if way == "ours" else ["qoperator"]
    bundle = lsq_export.export(
        network, None, out / way, formats=formats, calibration=batches(directory), force=True, sample=False
    )
    assert bundle.parity is not None
    found = {
        "cpu": time.process_time() - cpu,
        "calibrate_cpu": calibrated,
        "seconds": time.perf_counter() - wall,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "promises": bundle.parity.ok,
        "images": bundle.parity.images,
        "differing": int(bundle.parity.formats["qoperator"].reference_mismatch),
        "multiplications": bundle.manifest.get("multiplications"),
        "islands": Counter(island["operator"] for island in bundle.manifest["islands"]),
        "left": [str(layer) for layer in network.left],
    }
    (out / f"{way}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    warnings.simplefilter("default")
    main(*sys.argv[1:])
