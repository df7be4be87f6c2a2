"""What a model file says of itself beside its graph, for those who get the file alone: ONNX's metadata_props.

classes          JSON: their names, in the order of the outputs
preprocessing    JSON, as in manifest.json
model_license    an SPDX expression; the key is ONNX's own

What nobody said has no entry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import onnx

from .origin import Origin


def with_metadata(model: onnx.ModelProto, origin: Origin) -> onnx.ModelProto:
    """A copy that says where it comes from."""
    described = onnx.ModelProto()
    described.CopyFrom(model)
    onnx.helper.set_model_props(described, metadata_of(origin))
    return described


def metadata_of(origin: Origin) -> dict[str, str]:
    """{key: text}."""
    found = {}
    if origin.classes is not None:
        found["classes"] = _json(list(origin.classes))
    if origin.license is not None:
        found["model_license"] = origin.license
    if origin.preprocessing is not None:
        steps: Mapping[str, Any] = {key: value for key, value in origin.preprocessing.items() if key != "classes"}
        found["preprocessing"] = _json(steps)
    return found


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
