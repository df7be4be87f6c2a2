"""IREE: its importer for ONNX and its compiler for the processor."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version as version_of
from tempfile import TemporaryDirectory

import iree.runtime
import numpy as np
import onnx
from iree.compiler.tools import compile_file
from iree.compiler.tools.import_onnx.__main__ import main as import_onnx
from iree.compiler.tools.import_onnx.__main__ import parse_arguments

Arrays = dict[str, np.ndarray]


def version() -> str:
    """Of the package."""
    return version_of("iree-base-compiler")


def opened(path: str, feeds: Arrays, names: list[str]) -> Callable[[Arrays], Arrays]:
    """The function of the module. The importer converts files below operator set 17."""
    with TemporaryDirectory() as directory:
        text = f"{directory}/model.mlir"
        if import_onnx(parse_arguments([path, "-o", text])):
            raise ValueError("iree-import-onnx failed")
        flags = ["--iree-llvmcpu-target-cpu=host"]
        module = compile_file(text, input_type="onnx", target_backends=["llvm-cpu"], extra_args=flags)
    loaded = iree.runtime.load_vm_flatbuffer(module, driver="local-sync")
    graph = onnx.load(path, load_external_data=False).graph
    constants = {value.name for value in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in constants]
    types = {
        value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in graph.output
    }
    function = loaded[graph.name]

    def run(batch: Arrays) -> Arrays:
        found = function(*(batch[name] for name in inputs))
        several = found if isinstance(found, (tuple, list)) else [found]
        arrays = [value.to_host() for value in several]  # integers have no sign there
        return {
            name: array.view(types[name]) if array.dtype.kind in "iu" else array
            for name, array in zip(names, arrays, strict=True)
        }

    return run
