"""LiteRT: a file that onnx2tf converts, in LiteRT's interpreter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np
import onnx
import onnx2tf
from ai_edge_litert.interpreter import Interpreter

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, Sequence[int]]
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

    sizes = {name: entry["shape"].tolist() for name, entry in zip(names, outputs, strict=True)}
    moved = with_channels_last(sizes, shapes_of)

    def run(batch: Arrays) -> Arrays:
        for entry, value in zip(inputs, batch.values(), strict=True):
            as_is = is_last(entry["shape"].tolist(), value.shape) is False
            interpreter.set_tensor(entry["index"], value if as_is else np.moveaxis(value, 1, -1))
        interpreter.invoke()
        found = zip(names, (interpreter.get_tensor(entry["index"]) for entry in outputs), strict=True)
        return {name: np.moveaxis(value, -1, 1) if name in moved else value for name, value in found}

    return run


def is_last(found: Sequence[int], shape: Sequence[int]) -> bool | None:
    """Whether `found` is `shape`, [N, C, …], with the channels last; None: it can be both. Batches do not count."""
    if len(shape) < 3 or len(found) != len(shape):
        return False
    last = list(found[1:]) == [*shape[2:], shape[1]]
    return None if last and list(found[1:]) == list(shape[1:]) else last


def with_channels_last(found: Shapes, shapes: Shapes) -> set[str]:
    """Names of the tensors with the channels last. shapes: those of the ONNX file; a name that it lacks is as there.

    One like [1, 16, 16, 16], of which sizes do not tell, lies as most others with as many axes do.
    """
    verdicts = {name: is_last(shape, shapes.get(name, shape[:1])) for name, shape in found.items()}
    votes: Counter[int] = Counter()
    for name, last in verdicts.items():
        if last is not None:
            votes[len(found[name])] += 1 if last else -1
    return {name for name, last in verdicts.items() if (votes[len(found[name])] >= 0 if last is None else last)}
