"""qonnx's executor: its own operators in numpy, all others in ONNX Runtime, one by one."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version as version_of

import numpy as np
import onnx

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

Arrays = dict[str, np.ndarray]


def version() -> str:
    """Of the package."""
    return version_of("qonnx")


def opened(path: str, feeds: Arrays, names: list[str]) -> Callable[[Arrays], Arrays]:
    """The model, with all shapes, which the executor wants to know."""
    proto = onnx.load(path)
    outputs = {value.name for value in proto.graph.output}
    inside = [value for value in proto.graph.value_info if value.name not in outputs]  # it refuses what is said twice
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(inside)
    model = ModelWrapper(proto)
    for name, value in feeds.items():
        model.set_tensor_shape(name, list(value.shape))
    model = model.transform(InferShapes())

    def run(batch: Arrays) -> Arrays:
        found = execute_onnx(model, batch)
        return {name: found[name] for name in names}

    return run
