"""ONNX files of any size: beyond what protobuf can hold, 2 GB, large constants lie in a second file, NAME.onnx.data.

    save(proto, path)          model.onnx, and model.onnx.data where it needs one
    within(proto)              whether one file is enough

Runtimes find the second file by its name, beside the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import onnx
from onnx import numpy_helper

LIMIT = 2**31 - 2**24  # bytes of constants from which a file has a second one; the rest is for nodes and names
LIGHT = 2**25  # bytes of constants that may be in memory several times at once
APART = 2**10  # bytes of a constant that goes there
ALIGNMENT = 2**12  # of constants in the second file, so that they can be mapped into memory
SUFFIX = ".data"

Message = TypeVar("Message", onnx.ModelProto, onnx.GraphProto)


def bytes_of(tensor: onnx.TensorProto) -> int:
    """Bytes of the values of a tensor, by its type and shape."""
    count = 1
    for size in tensor.dims:
        count *= size
    return int(count * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def within(proto: onnx.ModelProto) -> bool:
    """Whether the constants fit one file."""
    return sum(map(bytes_of, proto.graph.initializer)) <= LIMIT


def is_light(proto: onnx.ModelProto) -> bool:
    """Whether nobody has to care how often its constants are in memory."""
    return sum(map(bytes_of, proto.graph.initializer)) <= min(LIGHT, LIMIT)


def save(proto: onnx.ModelProto, path: Path) -> None:
    """Write the file, and its second one if it needs one. The model itself is left as it is."""
    if within(proto):
        onnx.save(proto, path)
        return
    data = path.with_name(path.name + SUFFIX)
    with data.open("wb") as file:

        def moved(tensor: onnx.TensorProto) -> onnx.TensorProto:
            file.write(bytes(-file.tell() % ALIGNMENT))
            start = file.tell()
            file.write(tensor.raw_data)
            return _elsewhere(tensor, location=data.name, offset=start, length=file.tell() - start)

        light = _light(proto, moved)
    path.write_bytes(light.SerializeToString())


def other_files(proto: onnx.ModelProto) -> set[str]:
    """Names of the files beside it that a model, read without them, has constants in."""
    where = {
        entry.value for tensor in _tensors(proto.graph) for entry in tensor.external_data if entry.key == "location"
    }
    return {name for name in where if not Path(name).is_absolute() and ".." not in Path(name).parts}


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for given in (attribute for node in graph.node for attribute in node.attribute):
        yield from [given.t, *given.tensors]
        for inner in [given.g, *given.graphs]:
            yield from _tensors(inner)


def split(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """(the model without its large constants, {constant: array}), as ONNX Runtime takes them from memory."""
    arrays: dict[str, Any] = {}

    def moved(tensor: onnx.TensorProto) -> onnx.TensorProto:
        arrays[tensor.name] = numpy_helper.to_array(tensor)
        return _elsewhere(tensor, location=f"memory{SUFFIX}", offset=0, length=bytes_of(tensor))

    return _light(proto, moved), arrays


def skeleton(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large constants as inputs, for checks of nodes and types."""
    large = [tensor for tensor in proto.graph.initializer if _is_large(tensor)]
    light = _light(proto, lambda tensor: None)
    light.graph.input.extend(onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in large)
    return light


def names_of(path: PurePosixPath | Path) -> tuple[str, str]:
    """Names of both files."""
    return path.name, path.name + SUFFIX


def size_of(path: Path) -> int:
    """Bytes of a file and of its second one, if there is one."""
    data = path.with_name(path.name + SUFFIX)
    return path.stat().st_size + (data.stat().st_size if data.exists() else 0)


def fill(proto: onnx.ModelProto, name: str, read: Callable[[str], bytes]) -> None:
    """Put constants that lie in the second file back into the model.

    name: of the first file, relative to a folder. read(name): the content of another file of that folder, which has
    been checked. Errors (ValueError): they lie in a third file, or beyond the end.
    """
    wanted = [tensor for tensor in proto.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    if not wanted:
        return
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in wanted]
    own = PurePosixPath(name).name + SUFFIX
    if any(place.get("location") != own for place in places):
        raise ValueError(f"a constant lies in another file than {own}")
    content = memoryview(read(name + SUFFIX))
    for tensor, place in zip(wanted, places, strict=True):
        start, length = _number(place, "offset"), _number(place, "length")
        if length != bytes_of(tensor) or start + length > len(content):
            raise ValueError(f"the constant {tensor.name} is not whole in {own}")
        tensor.raw_data = bytes(content[start : start + length])
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def _number(place: Mapping[str, str], key: str) -> int:
    text = place.get(key, "")
    if not text.isdecimal() or not text.isascii():
        raise ValueError(f"the {key} of a constant is {text!r}")
    return int(text)


def _is_large(tensor: onnx.TensorProto) -> bool:
    return tensor.HasField("raw_data") and bytes_of(tensor) >= APART


def _elsewhere(tensor: onnx.TensorProto, **place: Any) -> onnx.TensorProto:
    found = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    found.data_location = onnx.TensorProto.EXTERNAL
    for key, value in place.items():
        found.external_data.add(key=key, value=str(value))
    return found


def _light(proto: onnx.ModelProto, large: Callable[[onnx.TensorProto], onnx.TensorProto | None]) -> onnx.ModelProto:
    """A copy in which large constants are what the function makes of them; None leaves one out."""
    light, graph = _without(proto, "graph"), _without(proto.graph, "initializer")
    for tensor in proto.graph.initializer:
        kept = large(tensor) if _is_large(tensor) else tensor
        if kept is not None:
            graph.initializer.append(kept)
    light.graph.CopyFrom(graph)
    return light


def _without(message: Message, name: str) -> Message:
    """A copy without one field."""
    found = type(message)()
    for field, value in message.ListFields():
        if field.name == name:
            continue
        if field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED:
            getattr(found, field.name).extend(value)
        elif field.message_type is not None:
            getattr(found, field.name).CopyFrom(value)
        else:
            setattr(found, field.name, value)
    return found
