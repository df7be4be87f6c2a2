"""AIMET's files of grids beside a plain state_dict.

By names of modules, as `save_encodings_to_json` and `export` (NAME_torch.encodings) write them:

    {"activation_encodings": {"relu": {"output": {"0": {"bitwidth": 4, "scale": …, "offset": …}}}}, …}

By names of tensors of the ONNX file beside them (versions 0.6, 1.0 and 2.0): /layer1/relu/Relu_output_0 is what the
module layer1.relu makes; of other names (inputs, outputs, numbers) a mapping file says where they are.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lsq_export.adoption.encodings import Encoding, in_one_line, joined, of_offset, read_encodings
from lsq_export.inspection.parametrizations import Asked, Stored

from .learned import Raw, Role

_TENSOR = re.compile(r"/(?P<module>.+)/[^/]+_output_0")


def read_module_encodings(path: str | os.PathLike[str]) -> tuple[Raw, ...]:
    """The quantizers of a file of encodings.

    Errors (QuantizationError): no such file, another version, numbers that are no grid.
    """
    with in_one_line(path, "that AIMET wrote beside the state_dict"):
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        activations = content.get("activation_encodings") if isinstance(content, Mapping) else None
        of_modules = isinstance(activations, Mapping) and all(isinstance(e, Mapping) for e in activations.values())
        if of_modules:
            return tuple(_of_modules(content))
    return tuple(_of_tensors(read_encodings(path)))


def _of_modules(content: Mapping[str, Any]) -> Iterator[Raw]:
    for module, sides in content["activation_encodings"].items():
        for side, entries in sides.items():
            for number, entry in entries.items():
                name = f"{module}.{side}.{number}"
                yield _raw(name, module, _role(side), of_offset({"name": name, **joined([entry])}))
    for name, entries in content["param_encodings"].items():
        if str(name).endswith(".weight"):  # biases stay what they are
            layer = str(name).removesuffix(".weight")
            yield _raw(str(name), layer, "weight", of_offset({"name": name, **joined(entries)}))


def _of_tensors(encodings: Mapping[str, Encoding]) -> Iterator[Raw]:
    for name, encoding in encodings.items():
        match = _TENSOR.fullmatch(name)
        if name.endswith(".weight"):
            yield _raw(name, name.removesuffix(".weight"), "weight", encoding)
        elif not name.endswith(".bias"):
            yield _raw(name, match["module"].replace("/", ".") if match else name, "output", encoding)


def _role(side: str) -> Role:
    if side not in ("input", "output"):
        raise ValueError(f"{side} is neither input nor output")
    return "input" if side == "input" else "output"


def _raw(name: str, place: str, role: Role, encoding: Encoding) -> Raw:
    codes = encoding.first, encoding.last
    bits = (codes[1] - codes[0]).bit_length()

    def grid(asked: Asked) -> Stored:
        zero_point = encoding.zero_point.reshape(-1).astype(np.float64)
        return Stored(scale=encoding.scale.reshape(-1), zero_point=zero_point, bits=bits, codes=codes)

    return Raw(name=name, place=place, role=role, used=(), grid=grid)
