"""Run ONNX models where nothing is installed but Python, numpy and onnxruntime: python worker.py DIRECTORY.

DIRECTORY/jobs.json lists jobs {model, level, inputs, outputs}: files in DIRECTORY. A set of tensors NAME is NAME.json,
a list of {name, type, shape}, and NAME.bin, their bytes one after the other. worker.mjs does the same with
onnxruntime-web.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Mapping

import numpy
import onnxruntime


def read(directory: pathlib.Path, name: str) -> dict[str, numpy.ndarray]:
    """{name: array} of a set of tensors."""
    raw, offset, tensors = (directory / f"{name}.bin").read_bytes(), 0, {}
    for entry in json.loads((directory / f"{name}.json").read_text()):
        dtype, count = numpy.dtype(entry["type"]), int(numpy.prod(entry["shape"]))
        tensors[entry["name"]] = numpy.frombuffer(raw, dtype, count, offset).reshape(entry["shape"])
        offset += count * dtype.itemsize
    return tensors


def write(directory: pathlib.Path, name: str, tensors: Mapping[str, numpy.ndarray]) -> None:
    """The opposite of read; the set is complete once the .json is there."""
    (directory / f"{name}.bin").write_bytes(b"".join(value.tobytes() for value in tensors.values()))
    entries = [{"name": key, "type": str(value.dtype), "shape": list(value.shape)} for key, value in tensors.items()]
    (directory / f"{name}.json").write_text(json.dumps(entries))


def main(directory: pathlib.Path) -> None:
    """Run all jobs and print the version of ONNX Runtime."""
    levels = {
        "default": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
        "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    }
    for job in json.loads((directory / "jobs.json").read_text()):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = levels[job["level"]]
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        model = str(directory / job["model"])
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        values = session.run(names, read(directory, job["inputs"]))
        write(directory, job["outputs"], dict(zip(names, values, strict=True)))
    print(f"onnxruntime {onnxruntime.__version__}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
