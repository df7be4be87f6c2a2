"""lsq_export/bundle/golden.py: golden vectors, as others read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from calib.errors import DamagedError
from lsq_export.bundle.golden import read_golden, write_golden
from lsq_export.bundle.reading import Files
from lsq_export.bundle.sums import write_sums
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


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """An input and two outputs, in the order in which they were given."""
    x, outputs = np.ones((2, 3), np.float32), {"b": np.zeros((2, 1), np.float32), "a": np.full((2, 2), 7, np.uint8)}
    write_golden(tmp_path / "qdq", {"x": x}, outputs)
    assert sorted(p.name for p in (tmp_path / "qdq" / "test_data_set_0").iterdir()) == [
        "input_0.pb",
        "output_0.pb",
        "output_1.pb",
    ]
    write_sums(tmp_path)
    again, found = read_golden(Files(tmp_path), "qdq")
    assert np.array_equal(again, x) and list(found) == ["b", "a"]
    assert all(
        np.array_equal(found[name], outputs[name]) and found[name].dtype == outputs[name].dtype for name in found
    )


@pytest.mark.parametrize("sums", ["old sums", "new sums"])
@pytest.mark.parametrize("damage", ["missing", "junk"])
def test_vectors_that_cannot_be_read_are_named(damage: str, sums: str, tmp_path: Path) -> None:
    write_golden(tmp_path / "qdq", {"x": np.ones(2, np.float32)}, {"y": np.ones(2, np.float32)})
    write_sums(tmp_path)
    path = tmp_path / "qdq" / "test_data_set_0" / "input_0.pb"
    path.unlink() if damage == "missing" else path.write_bytes(b"junk")
    if sums == "new sums":
        write_sums(tmp_path)
    with pytest.raises(DamagedError, match=r"qdq/test_data_set_0/input_0\.pb ") as error:
        read_golden(Files(tmp_path), "qdq")
    assert "\n" not in str(error.value)
