"""lsq_export/bundle/golden.py: golden vectors, as others read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from support.exported import SHAPE, Exported


@pytest.mark.parametrize("name", ["qdq", "qoperator"])
def test_golden_vectors_reproduce(name: str, exported: Exported) -> None:
    """As ONNX's own test runner reads them: input_<i> and output_<i> belong to the model's i-th input and output."""
    directory = exported.bundle.directory / name
    session = onnxruntime.InferenceSession(directory / "model.onnx")
    ((x_name, x),), outputs = (
        [read(p) for p in sorted((directory / "test_data_set_0").glob(f"{kind}_*.pb"))] for kind in ("input", "output")
    )
    assert [x_name] == [i.name for i in session.get_inputs()] and [n for n, _ in outputs] == [
        o.name for o in session.get_outputs()
    ]
    assert x.dtype == np.float32 and x.shape == (2, *SHAPE) and np.array_equal(x, exported.inputs[:2])
    for (_, golden), found in zip(outputs, session.run(None, {x_name: x}), strict=True):
        assert golden.dtype == np.float32 and np.ptp(golden) > 0
        if name == "qoperator":
            assert np.array_equal(golden, found)
        else:  # float kernels; the convention of ONNX's test runner
            np.testing.assert_allclose(found, golden, rtol=1e-3, atol=1e-7)


def read(path: Path) -> tuple[str, np.ndarray]:
    tensor = onnx.TensorProto.FromString(path.read_bytes())
    return tensor.name, numpy_helper.to_array(tensor)
