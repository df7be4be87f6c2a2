"""LiteRT: a file that onnx2tf converts, in LiteRT's interpreter."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np
import onnx
import onnx2tf
from ai_edge_litert.interpreter import Interpreter

Arrays = dict[str, np.ndarray]
SAMPLES = "calibration_image_sample_data_20x128x128x3_float32.npy"  # images that onnx2tf runs what it makes on


def version() -> str:
    """Of both packages."""
    return f"{version_of('ai-edge-litert')}, onnx2tf {version_of('onnx2tf')}"


def opened(path: str, feeds: Arrays, names: list[str]) -> Callable[[Arrays], Arrays]:
    """The interpreter. Images become [N, H, W, C] there; the signature knows inputs and outputs by name."""
    graph = onnx.load(path).graph  # which onnx2tf writes anew
    shapes_of = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.output}
    np.save(SAMPLES, np.random.default_rng(0).random((20, 128, 128, 3), np.float32))  # it would fetch them
    shapes = [f"{name}:{','.join(map(str, value.shape))}" for name, value in feeds.items()]
    onnx2tf.convert(
        input_onnx_file_path=path,
        output_folder_path="converted",
        overwrite_input_shape=shapes,
        batch_size=len(next(iter(feeds.values()))),
        output_signaturedefs=True,
        copy_onnx_input_output_names_to_tflite=True,
        non_verbose=True,
        verbosity="error",
    )
    (file,) = Path("converted").glob("*float32.tflite")
    interpreter = Interpreter(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def run(batch: Arrays) -> Arrays:
        for entry, value in zip(inputs, batch.values(), strict=True):
            last = value.ndim > 2 and tuple(entry["shape"]) != value.shape
            interpreter.set_tensor(entry["index"], np.moveaxis(value, 1, -1) if last else value)
        interpreter.invoke()
        found = zip(names, (interpreter.get_tensor(entry["index"]) for entry in outputs), strict=True)
        return {name: _first(value, shapes_of.get(name, [])) for name, value in found}

    return run


def _first(value: np.ndarray, shape: list[int]) -> np.ndarray:
    """With the channels in front, as the ONNX file has them: [N, C, …]."""
    is_moved = value.ndim > 2 and len(shape) == value.ndim and shape[1:] == [value.shape[-1], *value.shape[1:-1]]
    return np.moveaxis(value, -1, 1) if is_moved and list(value.shape[1:]) != shape[1:] else value
