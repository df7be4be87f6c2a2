"""What a page has to know of a network: network.json, and the golden vectors as bytes.

network.json   names, shapes, classes, preprocessing, and where each tensor lies in golden.bin
golden.bin     the golden inputs and outputs, little-endian, one after the other; the sample, where it is an array
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from calib.errors import DamagedError, QuantizationError, one_line
from lsq_export.bundle.directory import Bundle
from lsq_export.bundle.faces import all_inputs
from lsq_export.bundle.golden import read_golden
from lsq_export.bundle.layout import MODEL
from lsq_export.bundle.reading import Files
from lsq_export.bundle.run import STEPS
from lsq_export.files.large_onnx import SUFFIX
from lsq_export.replaying.integers import Scale, scale_of_output
from lsq_export.verification.readable import inputs_of
from lsq_export.verification.summary import network

TYPES = ("float32", "float64", "uint8", "int8", "int32", "int64", "bool")  # that network.js knows
FORMATS = ("qoperator", "qdq", "lookup")  # the first that is there
SAMPLE = "sample.png"


@dataclass(frozen=True, kw_only=True)
class PageContents:
    """about: of network.json. files: {name: bytes} beside it."""

    about: dict[str, Any]
    files: dict[str, bytes]


class Tensors:
    """Arrays, one after the other, each at a multiple of 8 bytes."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def add(self, name: str, array: np.ndarray) -> dict[str, Any]:
        """Its entry. Errors (QuantizationError): a type that pages do not know."""
        if array.dtype.name not in TYPES:
            raise QuantizationError(f"{name} has the type {array.dtype}, which the page does not know")
        start = len(self.bytes)
        self.bytes += np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        entry = {"name": name, "type": array.dtype.name, "shape": list(array.shape), "offset": start}
        entry["bytes"] = len(self.bytes) - start
        self.bytes += bytes(-len(self.bytes) % 8)
        return entry


def page_contents(bundle: Bundle, name: str | None, runtime: str) -> PageContents:
    """What goes into the folder beside the page and onnxruntime-web.

    name: of a format; None: the exact one, if it is there. runtime: the version of onnxruntime-web.
    Errors (QuantizationError): no such format, a network with external data; files that are not what was exported
    (DamagedError).
    """
    chosen = name or next(one for one in FORMATS if one in bundle.models)
    if chosen not in bundle.models:
        raise QuantizationError(f"bundle {bundle.directory} has no format {chosen!r}: use {', '.join(bundle.models)}")
    if not {"sample", "preprocessing"} <= {*bundle.manifest}:
        raise QuantizationError(f"bundle {bundle.directory} is of an older version, without a sample: export it again")
    files, model = Files(bundle.directory), f"{chosen}/{MODEL}"
    if model + SUFFIX in files.sums:
        raise QuantizationError(f"{model} is too large for a page: its constants lie in a second file")
    content, tensors, manifest = files.content(model), Tensors(), bundle.manifest
    proto = files.onnx(model)
    x, outputs = read_golden(files, chosen)
    given = dict(x) if isinstance(x, Mapping) else {inputs_of(proto)[0]: x}
    golden = {
        "inputs": [tensors.add(key, value) for key, value in given.items()],
        "outputs": [{**tensors.add(key, value), "scale": _scale(proto, key)} for key, value in outputs.items()],
    }
    picture, sample = _picture(files, manifest, tensors)
    about = {
        "title": f"{network(manifest)}, in integers",
        "what": f"{model} of a bundle for the target {manifest['target']}, in onnxruntime-web {runtime}",
        "made": f"Made with lsq-export {manifest['lsq_export']}; license of the network: "
        f"{manifest.get('license') or 'not stated'}.",
        "optimization": manifest["formats"][chosen]["optimization"],
        "inputs": all_inputs(manifest),
        "outputs": manifest["outputs"],
        "grids": manifest["formats"][chosen].get("outputs", {}),
        "golden": golden,
        "classes": manifest.get("classes"),
        **picture,
        "sample_class": manifest["sample"]["class"],
        "label": manifest["sample"]["label"],
    }
    return PageContents(about=about, files={MODEL: content, "golden.bin": bytes(tensors.bytes), **sample})


def _scale(proto: onnx.ModelProto, output: str) -> dict[str, Any] | None:
    scale: Scale | None = scale_of_output(proto, output)
    if scale is None:
        return None
    values, zeros = (array.reshape(-1).astype(np.float64).tolist() for array in (scale.values, scale.zero_point))
    return {"values": values, "zero_points": zeros, "axis": scale.axis}


def _picture(files: Files, manifest: Mapping[str, Any], tensors: Tensors) -> tuple[dict[str, Any], dict[str, bytes]]:
    """(how a picture becomes an input, or why none does; the sample, where it is an image)."""
    sample, shape, how = manifest["sample"], manifest["input"]["shape"][1:], manifest["preprocessing"]
    about: dict[str, Any] = {"preprocessing": how, "source": None, "sample": None, "light": True, "why": None}
    about["why"] = _why_none(manifest)
    if about["why"]:
        return about, {}
    about["source"] = {"channels": 1 if shape[0] == 1 else 3, "range": None}
    has_steps = any(how.get(step) is not None for step in STEPS)
    if sample["prepared"] and has_steps:  # nothing is known of the data before: pixels
        return about, {}
    if sample["file"].endswith(".png"):
        content = files.content(sample["file"])
        about["light"] = _is_light(_array(files, sample["input"]), 0)
        return {**about, "sample": {"file": SAMPLE}}, {SAMPLE: content}
    source = _array(files, sample["file"])
    last = _channels_last(source, shape)
    if last is None:
        return {**about, "source": None, "why": f"the data are arrays {list(source.shape)}, and no pictures"}, {}
    height, width, channels = last.shape
    pixels = source.dtype == np.uint8
    about["source"] = {"channels": channels, "height": height, "width": width}
    about["source"]["range"] = None if pixels else sample["range"]
    about["light"] = _is_light(last, -1)
    if sample["prepared"]:
        return about, {}  # there is nothing that could be done to it
    return {**about, "sample": tensors.add("sample", last if pixels else last.astype(np.float32))}, {}


def _array(files: Files, name: str) -> np.ndarray:
    try:
        return np.asarray(np.load(io.BytesIO(files.content(name)), allow_pickle=False))
    except (ValueError, EOFError) as error:
        if isinstance(error, DamagedError):
            raise
        raise files.error(name, f"is no array ({one_line(error)})") from error


def _why_none(manifest: Mapping[str, Any]) -> str | None:
    """Why no picture can be an input; None: one can."""
    shape, how = manifest["input"]["shape"][1:], manifest["preprocessing"]
    if "inputs" in manifest:
        return "the network takes several inputs"
    if len(shape) != 3 or shape[0] not in (1, 3) or not all(isinstance(side, int) for side in shape):
        return f"an input of the shape {shape} is no picture".replace("'", "")
    if how is None:
        return "what has to be done to a picture before was not said at export (preprocessing)"
    unknown = sorted({*how} - {*STEPS, "data", "classes"})
    return f"the page does not know the step {unknown[0]!r} of the preprocessing" if unknown else None


def _channels_last(source: np.ndarray, shape: list[int]) -> np.ndarray | None:
    """[H, W, C] of one or three channels, of [H, W], [H, W, C] or an array of the shape of the input; None: another."""
    if list(source.shape) == shape:
        source = np.moveaxis(source, 0, -1)
    found = source[..., None] if source.ndim == 2 else source
    return found if found.ndim == 3 and found.shape[2] in (1, 3) else None


def _is_light(picture: np.ndarray, axis: int) -> bool:
    """Whether what is shown is lighter than the border around it. axis: of the channels."""
    gray = picture.astype(np.float64).mean(axis=axis)
    border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    return bool(border.mean() < (gray.min() + gray.max()) / 2)
