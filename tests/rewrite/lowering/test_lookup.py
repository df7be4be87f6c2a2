"""lookup: chains of functions of one code become tables; the same codes, with our library and without it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from lsq_export import integer
from lsq_export.rewrite.emit import emit
from lsq_export.rewrite.lowering.channels_last import from_last
from lsq_export.targets import ORT_CPU
from lsq_export.verification.format_run import libraries
from lsq_export.verification.runtime import Session, integer_tensors
from support.networks import ZOO, case_of, folded, inputs


def tensors(file: onnx.ModelProto, x: np.ndarray, level: str, library: bool) -> dict[str, np.ndarray]:
    session = Session(file, level, integer_tensors(file), library=library)
    return dict(from_last(name, value) for name, value in session.run(x).items())


@pytest.mark.parametrize("name", ZOO)
def test_every_tensor_is_that_of_the_qoperator_file(name: str) -> None:
    model = folded(name).model
    qoperator, lookup = (emit(model, kind, ORT_CPU) for kind in ("qoperator", "lookup"))
    onnx.checker.check_model(lookup)
    x = inputs(8, 3, case_of(name).shape, spread=3.0).numpy()
    expected = integer.run(qoperator, {qoperator.graph.input[0].name: x})
    for library in libraries():
        for level in ("default", "disabled"):
            found = tensors(lookup, x, level, library)
            assert {value.name for value in qoperator.graph.output} <= found.keys()
            for tensor, value in found.items():
                assert np.array_equal(value, expected[tensor]), (tensor, library, level)
