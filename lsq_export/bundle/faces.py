"""Inputs and outputs of a network as the manifest has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

FLOAT = "float32"


def input_entries(graph: onnx.GraphProto) -> list[dict[str, Any]]:
    """Name, type and shape of every input. Of a shape, "batch" is any number of samples, a number so many at a time."""
    constants = {tensor.name for tensor in graph.initializer}
    return [_entry(value) for value in graph.input if value.name not in constants]


def all_inputs(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entries of a manifest; `inputs` is there where the network takes several."""
    return list(manifest.get("inputs") or [manifest["input"]])


def _entry(value: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = value.type.tensor_type
    name = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    return {"name": value.name, "type": name, "shape": sizes_of(value)}


def sizes_of(value: onnx.ValueInfoProto) -> list[Any]:
    """The first size is "batch", where it is not fixed; others are numbers, or the name of what varies."""
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value or (dim.dim_param if index and dim.dim_param else "batch") for index, dim in enumerate(dims)]


def in_words(entries: Sequence[Mapping[str, Any]]) -> str:
    """One tensor `input`, float32 [batch, 3, 8, 8], with any number of inputs as the batch."""
    tensors = [f"`{entry['name']}`, {entry['type']} [{', '.join(map(str, entry['shape']))}]" for entry in entries]
    fixed = entries[0]["shape"][:1] == [1]
    how = "one sample at a time" if fixed else "with any number of inputs as the batch"
    if len(tensors) == 1:
        return f"One tensor {tensors[0]}, {how}."
    return f"{len(tensors)} tensors: {'; '.join(tensors)}; {how}, the same for all."
