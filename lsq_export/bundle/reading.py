"""The one way in which files of a bundle are read: regular files inside it, with the sum that SHA256SUMS has for them.

    files = Files(directory)
    files.json(MANIFEST)          files.onnx("qdq/model.onnx")

What is parsed are the very bytes whose sum was compared. Errors are DamagedError: nothing of such a file is believed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import onnx

from calib.errors import DamagedError, QuantizationError, one_line, shown
from lsq_export.files import regular, strict_json
from lsq_export.files.digest import sha256_of
from lsq_export.files.large_onnx import SUFFIX, fill

from .layout import AGAIN, LARGEST, LARGEST_DATA, LARGEST_JSON, LARGEST_SUMS, RECORDS, SUMS

Proto = TypeVar("Proto", onnx.ModelProto, onnx.TensorProto)
_DIGEST = 64  # hexadecimal digits
Sums = dict[str, tuple[str, ...]]  # {file: its digests}, more than one only of RECORDS


class Files:
    """The files of a bundle. sums: {file: its digests}, as SHA256SUMS has them.

    Errors (DamagedError): no sums that can be read, here and where a file is asked for that is not what they say.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sums = read_sums(directory)

    def content(self, name: str, limit: int = LARGEST) -> bytes:
        """What a file holds. limit: bytes. Errors (DamagedError): not listed, not to be read, another sum."""
        if name not in self.sums:
            raise self.error(name, f"is not in {SUMS}")
        try:
            content = regular.read(self.directory, name, limit)
        except regular.UnreadableError as error:
            raise self.error(name, str(error)) from error
        if hashlib.sha256(content).hexdigest() not in self.sums[name]:
            raise self.error(name, f"is not what was exported ({SUMS})")
        return content

    def json(self, name: str) -> Any:
        """The value in a JSON file. Errors (DamagedError): as `content`, and no strict JSON."""
        try:
            return strict_json.parse(self.content(name, LARGEST_JSON))
        except ValueError as error:
            if isinstance(error, DamagedError):
                raise
            raise self.error(name, f"is no JSON that can be read ({one_line(error)})") from error

    def onnx(self, name: str) -> onnx.ModelProto:
        """The model in an ONNX file. Errors (DamagedError): as `content`, no model, data outside of the file."""
        content = self.content(name)
        try:
            return parse_onnx(content, lambda proto: fill(proto, name, self._data))
        except DamagedError:
            raise
        except ValueError as error:
            raise self.error(name, f"is not a readable ONNX file ({error})") from error

    def _data(self, name: str) -> bytes:
        return self.content(name, LARGEST_DATA)

    def changed(self) -> list[str]:
        """Files of SHA256SUMS that are missing, no regular files inside the bundle, or have another sum."""
        return [name for name in self.sums if not self.is_as_listed(name)]

    def is_as_listed(self, name: str) -> bool:
        """Whether a file of SHA256SUMS is there, a regular file inside the bundle, and has its sum."""
        return self._digest(name) in self.sums[name]

    def error(self, name: str, why: str) -> DamagedError:
        """The error about a file. why: the end of a sentence that begins with its name."""
        return DamagedError(f"bundle {shown(self.directory)}: {shown(name)} {why}; {AGAIN}")

    def _digest(self, name: str) -> str | None:
        try:
            with regular.opened(self.directory, name, LARGEST_DATA if name.endswith(SUFFIX) else LARGEST) as file:
                return sha256_of(file)
        except (regular.UnreadableError, OSError):
            return None


def damaged(directory: Path, names: Iterable[str]) -> DamagedError:
    """The error that names files that are not what was exported."""
    listed = ", ".join(map(shown, names))
    return DamagedError(f"bundle {shown(directory)}: {listed}: not what was exported ({SUMS}); {AGAIN}")


@contextmanager
def the_bundles_fault(
    directory: Path, blame: Callable[[QuantizationError], bool] = lambda error: True
) -> Iterator[None]:
    """What fails on the graphs of a bundle is said of the bundle: its sums are right, so somebody has written it so.

    blame: whether the bundle is at fault, and not what it is run on; asked about errors of ours.
    """
    try:
        yield
    except (DamagedError, MemoryError):
        raise
    except QuantizationError as error:
        if not blame(error):
            raise
        text = str(error).removesuffix(f"; {AGAIN}")
        raise DamagedError(f"bundle {shown(directory)}: {text}; {AGAIN}") from error
    except Exception as error:  # whatever a graph that no export writes leads to
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise DamagedError(
            f"bundle {shown(directory)}: its graphs cannot be followed ({shown(reason):.200}): no export writes "
            f"such graphs; {AGAIN}"
        ) from error


def read_sums(directory: Path) -> Sums:
    """{file: its digests}. Errors (DamagedError): no sums, or none that can be read."""
    sums: Sums = {}
    try:
        lines = regular.read(directory, SUMS, LARGEST_SUMS).decode("utf-8").split("\n")
        for digest, name in (line.split("  ", 1) for line in lines if line):
            if len(digest) != _DIGEST or not name:
                raise ValueError("no SHA-256")
            if name in sums and name not in RECORDS:
                raise ValueError(f"two lines for {name}")
            sums[name] = with_digest(sums.get(name, ()), digest)
    except ValueError as error:
        raise DamagedError(f"bundle {shown(directory)} has no readable {SUMS}; export it again") from error
    return sums


def with_digest(digests: tuple[str, ...], digest: str | None) -> tuple[str, ...]:
    """The digests that a file may have, with one more."""
    return digests if digest is None or digest in digests else (*digests, digest)


def _parsed(message: Proto, content: bytes) -> Proto:
    """The message, filled. Errors (ValueError): another content."""
    try:
        message.ParseFromString(content)
    except Exception as error:  # protobuf's own error types
        raise ValueError(type(error).__name__) from error
    return message


def parse_onnx(content: bytes, filled: Callable[[onnx.ModelProto], None] = lambda model: None) -> onnx.ModelProto:
    """A model whose constants are all in it, and whole. Errors (ValueError): another content.

    filled: puts those into it that lie in its second file.
    """
    model = _parsed(onnx.ModelProto(), content)
    if not model.graph.node or not model.graph.input:  # almost any few bytes parse as an empty protobuf message
        raise ValueError("no graph in it")
    filled(model)
    for tensor in _tensors(model.graph):
        _check_tensor(tensor)
    return model


def parse_tensor(content: bytes) -> onnx.TensorProto:
    """A tensor that is whole. Errors (ValueError): another content."""
    tensor = _parsed(onnx.TensorProto(), content)
    _check_tensor(tensor)
    return tensor


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every constant of a graph, of attributes and of graphs in it, too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ())):
                yield from _tensors(inner)


def _check_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise ValueError(f"{shown(tensor.name)} lies in another file")
    try:
        onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # whatever of its fields contradicts the others
        raise ValueError(f"the tensor {shown(tensor.name)} is damaged: {one_line(error):.160}") from error
