"""A network and its samples as files, in the environment that has the packages: python -m real.make NAME DIRECTORY"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from .networks import NETWORKS


def main(name: str, out: str) -> None:
    """float.onnx, calibration.npz, evaluation.npz."""
    directory, network = Path(out), NETWORKS[name]
    directory.mkdir(parents=True, exist_ok=True)
    network.model(directory / "float.onnx")
    samples = network.samples(directory / "float.onnx")
    truth = {} if samples.truth is None else {"truth": samples.truth}
    np.savez(directory / "calibration.npz", **samples.calibration)
    np.savez(directory / "evaluation.npz", **samples.evaluation, **truth)


if __name__ == "__main__":
    main(*sys.argv[1:])
