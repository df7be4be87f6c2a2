"""The files of one network: where each way to quantize it puts its own, and running one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from .networks.network import Arrays, Run

STATIC = ("minmax", "entropy", "percentile")  # methods of quantize_static
PEERS = (*STATIC, "nncf")
OURS = ("ours", "mse", "reconstruction")  # at 8 bits, and by the name of the method at fewer


@dataclass(frozen=True, order=True)
class Bits:
    """Of the weights, and of the inputs of layers; the first and the last layer, and all else, have 8."""

    weight: int
    activation: int

    @classmethod
    def parse(cls, text: str) -> Bits:
        """text: as "4,8".

        Errors (ValueError): another form.
        """
        weight, activation = map(int, text.split(","))
        return cls(weight, activation)

    @property
    def arguments(self) -> tuple[str, str]:
        """For a command line."""
        return str(self.weight), str(self.activation)

    def __str__(self) -> str:
        return f"W{self.weight}A{self.activation}"


EIGHT = Bits(8, 8)


def folder_of(directory: Path, bits: Bits) -> Path:
    """Where the quantized files of a network are; directory: with its float file and its samples."""
    return directory if bits == EIGHT else directory / str(bits).lower()


def file_of(folder: Path, way: str) -> Path:
    return folder / (f"{way}/qoperator/model.onnx" if way in OURS else f"{way}.onnx")


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def session_of(path: Path) -> onnxruntime.InferenceSession:
    """One thread, so that nothing depends on what else the machine does."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def runner(path: Path) -> Run:
    """Sample after sample where the file wants that; integers in the type that it takes."""
    session = session_of(path)
    given = session.get_inputs()
    alone = given[0].shape[0] == 1

    def run(inputs: Arrays) -> list[np.ndarray]:
        feeds = typed(session, inputs)
        count = len(next(iter(feeds.values())))
        if not alone or count == 1:
            return list(session.run(None, feeds))
        outputs = [session.run(None, {k: v[i : i + 1] for k, v in feeds.items()}) for i in range(count)]
        return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]

    return run


def typed(session: onnxruntime.InferenceSession, inputs: Arrays) -> dict[str, np.ndarray]:
    """The inputs in the types of the file: tools make int32 of int64 and the other way round. With a first axis of one
    where the file has one more than the network had.
    """
    types = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}
    found = {}
    for value in session.get_inputs():
        array = inputs[value.name]
        array = array.astype(types[value.type]) if value.type in types else array
        found[value.name] = array[None] if array.ndim < len(value.shape) else array
    return found
