"""Apache TVM: its importer for ONNX into Relax, compiled for the processor by LLVM."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

Arrays = dict[str, np.ndarray]


def version() -> str:
    """Of the package."""
    return str(tvm.__version__)


def opened(path: str, feeds: Arrays, names: list[str]) -> Callable[[Arrays], Arrays]:
    """A virtual machine. The importer wants to know all shapes."""
    proto = onnx.load(path)
    shapes = {name: list(value.shape) for name, value in feeds.items()}
    module = from_onnx(proto, shape_dict=shapes, keep_params_in_input=False)
    machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())

    def run(batch: Arrays) -> Arrays:
        found = machine["main"](*(tvm.runtime.tensor(batch[name]) for name in shapes))
        several = [found] if isinstance(found, tvm.runtime.Tensor) else list(found)
        return {name: value.numpy() for name, value in zip(names, several, strict=True)}

    return run
