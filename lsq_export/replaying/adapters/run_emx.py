"""emx-onnx-cgen: C source of a model, compiled by the C compiler (CC, or gcc or cc) for this processor."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version as version_of

import numpy as np
import onnx

Arrays = dict[str, np.ndarray]


def version() -> str:
    """Of the package."""
    return version_of("emx-onnx-cgen")


def opened(path: str, feeds: Arrays, names: list[str]) -> Callable[[Arrays], Arrays]:
    """The function of the source, in a library in the working directory. It wants to know all shapes."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    varying = {dim.dim_param for value in graph.input for dim in value.type.tensor_type.shape.dim[:1]} - {""}
    sizes = {name: len(next(iter(feeds.values()))) for name in varying}
    pins = [word for name, size in sizes.items() for word in ("--input-dim", f"{name}={size}")]
    _called([sys.executable, "-m", "emx_onnx_cgen", "compile", "--model-name", "model", *pins, path, "model.c"])
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("there is no C compiler: name one in the variable CC")
    _called([compiler, "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-o", "model.so", "model.c", "-lm"])
    library = ctypes.CDLL(os.path.abspath("model.so"))
    if os.path.exists("model.bin"):  # weights beyond 100 KiB
        library.model_load.restype = ctypes.c_bool
        if not library.model_load(b"model.bin"):
            raise RuntimeError("model.bin cannot be loaded")
    function = library.model
    outputs = [(value.name, _type(value), _shape(value, sizes)) for value in graph.output]

    def run(batch: Arrays) -> Arrays:
        found = {name: np.zeros(shape, kind) for name, kind, shape in outputs}
        function(*(value.ctypes.data_as(ctypes.c_void_p) for value in (*batch.values(), *found.values())))
        return found

    return run


def _called(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise RuntimeError(f"{os.path.basename(command[0])} ends with {done.returncode}: {said[-1]}")


def _type(value: onnx.ValueInfoProto) -> np.dtype:
    return onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)


def _shape(value: onnx.ValueInfoProto, sizes: dict[str, int]) -> list[int]:
    return [sizes.get(dim.dim_param, dim.dim_value) for dim in value.type.tensor_type.shape.dim]
