"""What an export writes into a bundle: the models with their golden vectors, the reference graphs, the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from lsq_export import integer
from lsq_export.rewrite.emit import emit, serialize
from lsq_export.rewrite.fold import Folded
from lsq_export.targets import Target

from .directory import FOLDED, MANIFEST, TRAINED, write_json, write_model
from .manifest import Origin, manifest_of


def write_contents(
    directory: Path,
    folded: Folded,
    files: Mapping[str, onnx.ModelProto],
    target: Target,
    golden: np.ndarray,
    costs: list[dict[str, Any]],
    origin: Origin,
) -> dict[str, Any]:
    """Returns the manifest. golden: images [N, …] of the golden vectors. costs: of each fold, for the manifest."""
    reference = files.get("qoperator") or emit(folded.model, "qoperator", target)
    names = [output.name for output in reference.graph.output]
    outputs = integer.run(reference, {reference.graph.input[0].name: golden}, outputs=names)
    for name, proto in files.items():
        write_model(directory, name, proto, golden, outputs)
    (directory / TRAINED).parent.mkdir()
    for path, graph in ((TRAINED, folded.trained), (FOLDED, folded.model)):
        onnx.save(serialize(graph, target.opset, path.stem, notes=True), directory / path)
    manifest = manifest_of(directory, folded, files, target, origin) | {"folds": costs}
    write_json(directory / MANIFEST, manifest)
    return manifest
