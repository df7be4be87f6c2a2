"""ONNX files that nobody can use, made of good ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx


def broken(file: Path, path: Path, what: str, weight: str) -> Path:
    """A copy of a file at `path`, broken as `what` says. weight: the initializer that gets no numbers."""
    model = onnx.load(file)
    if what == "cut off":
        path.write_bytes(file.read_bytes()[:900])
    elif what == "external data that is not there":
        onnx.save(model, path, save_as_external_data=True, location="gone.data", size_threshold=0)
        (path.parent / "gone.data").unlink()
    elif what == "an operator set of the future":
        model.opset_import[0].version = 99
        onnx.save(model, path)
    else:
        assert what == "weights that are no numbers", what
        tensor = next(t for t in model.graph.initializer if t.name == weight)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(list(tensor.dims), np.nan, np.float32), weight))
        onnx.save(model, path)
    return path
