"""Cases to files and back: what the workers read, and how what they wrote compares with the integer reference."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from lsq_export.verification.runtime import integer_tensors

from .cases import Case
from .worker import read, write

LEVELS = ("default", "disabled")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one machine computed for one case, over all its sessions. first: the first tensor that differs."""

    tensors: int = 0
    elements: int = 0
    differing: int = 0
    first: str = ""


def prepare(cases: list[Case], directory: Path) -> None:
    """Write model, inputs and jobs of every case.

    A case runs as exported, and with every tensor as an output at both levels of graph optimization.
    """
    directory.mkdir(parents=True)
    jobs = []
    for case in cases:
        onnx.save(case.model, directory / f"{case.name}.onnx")
        onnx.save(_every_tensor(case.model), directory / f"{case.name}.every.onnx")
        write(directory, f"{case.name}.in", case.inputs)
        for name, model, level in sessions(case):
            jobs.append({"model": model, "level": level, "inputs": f"{case.name}.in", "outputs": name})
    (directory / "jobs.json").write_text(json.dumps(jobs))


def sessions(case: Case) -> list[tuple[str, str, str]]:
    """(set of tensors that it writes, model, level) for each session of a case."""
    every = [(f"{case.name}.{level}.out", f"{case.name}.every.onnx", level) for level in LEVELS]
    return [(f"{case.name}.exported.out", f"{case.name}.onnx", "default"), *every]


def _every_tensor(model: onnx.ModelProto) -> onnx.ModelProto:
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    present = {output.name for output in model.graph.output}
    wider.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in integer_tensors(model) if name not in present
    )
    return wider


def compare(case: Case, directory: Path) -> Outcome:
    """Compare bit by bit; a tensor that is missing, or has another type or shape, differs in every element."""
    total = Outcome()
    for name, model, _ in sessions(case):
        theirs = read(directory, name)
        (directory / f"{name}.json").unlink()  # what the next machine does not write is missed
        exported = [output.name for output in case.model.graph.output]
        outputs = list(case.reference) if ".every." in model else exported
        for tensor in outputs:
            ours = case.reference[tensor]
            different = count_different(ours, theirs.get(tensor))
            first = total.first or (f"{tensor} in {name}" if different else "")
            total = Outcome(
                tensors=total.tensors + 1,
                elements=total.elements + ours.size,
                differing=total.differing + different,
                first=first,
            )
    return total


def count_different(ours: np.ndarray, theirs: np.ndarray | None) -> int:
    """Elements with other bits."""
    if theirs is None or theirs.dtype != ours.dtype or theirs.shape != ours.shape:
        return ours.size
    bits = np.dtype(f"u{ours.dtype.itemsize}")
    return int(np.count_nonzero(np.ascontiguousarray(ours).view(bits) != np.ascontiguousarray(theirs).view(bits)))
