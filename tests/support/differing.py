"""The tensors of a file with tables, held against the integer reference of the qoperator file."""

from __future__ import annotations

import numpy as np
import onnx

from lsq_export import integer
from lsq_export.rewrite.emit import emit
from lsq_export.rewrite.fold import Folded
from lsq_export.rewrite.lowering.channels_last import from_last
from lsq_export.targets import ORT_CPU
from lsq_export.verification.format_run import libraries
from lsq_export.verification.runtime import Session, integer_tensors


def tensors(file: onnx.ModelProto, x: np.ndarray, level: str, library: bool) -> dict[str, np.ndarray]:
    session = Session(file, level, integer_tensors(file), library=library)
    return dict(from_last(name, value) for name, value in session.run(x).items())


def differing(made: Folded, x: np.ndarray) -> list[str]:
    """Tensors of the file that are not those of the integer reference of the qoperator file."""
    qoperator, lookup = (emit(made.model, kind, ORT_CPU) for kind in ("qoperator", "lookup"))
    onnx.checker.check_model(lookup)
    expected = integer.run(qoperator, {qoperator.graph.input[0].name: x})
    found = [tensors(lookup, x, level, library) for library in libraries() for level in ("default", "disabled")]
    outputs = {value.name for value in qoperator.graph.output}
    assert all(outputs <= run.keys() for run in found)
    return [name for run in found for name, value in run.items() if not np.array_equal(value, expected[name])]
