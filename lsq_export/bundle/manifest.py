"""manifest.json: the files, how to feed them, and every decision of the fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from lsq_export.files.large_onnx import size_of
from lsq_export.graph.float_size import float_bytes
from lsq_export.graph.islands import islands
from lsq_export.graph.multiplications import counted
from lsq_export.rewrite.contract.decisions import BiasCorrection, TensorDecision, summary
from lsq_export.rewrite.emit import code_types
from lsq_export.rewrite.fold import Folded
from lsq_export.targets import Target, asked_of
from lsq_export.version import VERSION

from .faces import FLOAT, input_entries, sizes_of
from .layout import MODEL
from .origin import Origin
from .weight_histogram import histogram_of_weights


def manifest_of(
    directory: Path, folded: Folded, files: Mapping[str, onnx.ModelProto], target: Target, origin: Origin
) -> dict[str, Any]:
    """What manifest.json holds. directory: where the files were written already."""
    first = next(iter(files.values()))
    containers = {name: kind for proto in files.values() for name, kind in code_types(proto).items()}
    nodes = {str(node.name): node for node in folded.model.graph}
    opsets = {name: next(o.version for o in proto.opset_import if not o.domain) for name, proto in files.items()}
    return {
        "lsq_export": VERSION,
        "made_with": {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        "target": target.name,
        **({"asked": asked} if (asked := asked_of(target)) else {}),
        **({"advice": target.advice} if target.advice else {}),
        "fold": folded.how,
        "opset": max(opsets.values()),
        "formats": {
            name: {**_file_entry(directory, name, opsets[name]), "optimization": target.optimization} for name in files
        },
        "float_parameter_bytes": float_bytes(folded.trained.graph),
        **_inputs(first.graph),
        "outputs": [output.name for output in first.graph.output],
        "output_meaning": {output.name: _meaning(output, origin) for output in first.graph.output},
        "classes": None if origin.classes is None else list(origin.classes),
        "preprocessing": origin.preprocessing,
        "license": origin.license,
        "source": origin.source,
        "islands": [asdict(island) for island in islands(folded.model.graph)],
        **counted(folded.model.graph),
        "tensors": [_tensor_entry(d, containers.get(d.codes, d.container), origin) for d in folded.tensors],
        "layers": [
            {
                **asdict(d),
                "container": containers.get(d.name, d.container),
                "codes": histogram_of_weights(nodes[d.name]),
            }
            for d in folded.layers
        ],
        "bias_correction": _correction_entry(folded.corrections),
    }


def places_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """{tensor: what makes it in the user's model}, of those whose name does not say it."""
    return {tensor["name"]: tensor["place"] for tensor in manifest.get("tensors") or () if tensor.get("place")}


def _inputs(graph: onnx.GraphProto) -> dict[str, Any]:
    """The first input, and all of them where there are several."""
    entries = input_entries(graph)
    return {"input": entries[0], **({"inputs": entries} if len(entries) > 1 else {})}


def _meaning(output: onnx.ValueInfoProto, origin: Origin) -> str:
    """One sentence."""
    shape = sizes_of(output)
    kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(output.type.tensor_type.elem_type)).name
    if len(shape) != 2 or shape[1] == 1 or not isinstance(shape[1], int) or kind != FLOAT:
        return f"{kind} {shape}; what the numbers mean was not said at export".replace("'", "")
    if origin.classes is None:
        return f"{shape[1]} numbers an input, taken as the logits of the classes 0 … {int(shape[1]) - 1}, without names"
    return f"logits of the {shape[1]} classes: the largest is the answer, and softmax makes probabilities of them"


def _tensor_entry(decision: TensorDecision, container: str, origin: Origin) -> dict[str, Any]:
    """place: where in the user's model the tensor is, in words; only of tensors whose name does not say it."""
    entry = {**asdict(decision), "remainder": decision.remainder.value, "container": container}
    place = origin.places.get(decision.name)
    return {**entry, "place": place} if place else entry


def _correction_entry(corrections: Sequence[BiasCorrection]) -> dict[str, Any] | None:
    if not corrections:
        return None
    return {"summary": summary(corrections), "layers": [asdict(c) for c in corrections]}


def _file_entry(directory: Path, name: str, opset: int) -> dict[str, Any]:
    file = f"{name}/{MODEL}"
    return {"file": file, "bytes": size_of(directory / file), "opset": opset}
