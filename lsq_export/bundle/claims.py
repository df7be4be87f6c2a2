"""What manifest.json says, held against the ONNX files: each number that contradicts them is named.

All that can be derived is derived from the graphs anew: files, shapes, outputs, the grid of every tensor, the scales
and widths of every layer. The rest (what the fold measured, say) is compared with the copy of the manifest that
reference/folded.onnx carries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from calib.errors import QuantizationError, shown
from lsq_export import targets
from lsq_export.files import strict_json
from lsq_export.graph.float_size import float_bytes
from lsq_export.graph.grids import grid_of, grid_of_codes, is_merged, quantizer_of
from lsq_export.graph.islands import islands
from lsq_export.graph.layers import weight_codes, weight_of
from lsq_export.graph.multiplications import counted
from lsq_export.graph.notes import BITS, FACTOR
from lsq_export.graph.operators import LAYERS
from lsq_export.graph.read import input_of, is_marker, is_op, producer_of
from lsq_export.rewrite.emit import code_types

from .faces import input_entries
from .layout import FOLDED, MANIFEST, MODEL
from .metadata import metadata_of
from .origin import Origin
from .output_claims import wrong_grids
from .weight_histogram import centered_codes, histogram_of_weights

COPY = "lsq_export.manifest"  # in the metadata of reference/folded.onnx
ROUNDING = 1e-6  # relative: what float32 and the order of arithmetic leave between two ways to the same number
_MISSING = object()


@dataclass(frozen=True, kw_only=True)
class Graphs:
    """The graphs of a bundle. files: {format: file}. sizes: {format: bytes}."""

    trained: ir.Model
    folded: ir.Model
    folded_metadata: Mapping[str, str]
    files: Mapping[str, onnx.ModelProto]
    sizes: Mapping[str, int]


def contradictions(manifest: Mapping[str, Any], graphs: Graphs) -> list[str]:
    """One line for each place in which a manifest is not what the graphs say, with both values."""
    try:
        target = targets.get(manifest["target"])
    except QuantizationError as error:
        return [f"{MANIFEST}: target: {error}"]
    found = dict(_different(_derived(graphs, target.optimization), manifest))
    found.update(_grids(manifest["tensors"], graphs))
    found.update(_layers(manifest["layers"], graphs.folded.graph))
    found.update((*_metadata(manifest, graphs.files), *wrong_grids(manifest["formats"], graphs.folded.graph)))
    lines = [f"{MANIFEST}: {shown(place)} {said}, but the ONNX files {have}" for place, (said, have) in found.items()]
    copy = graphs.folded_metadata.get(COPY)  # bundles of older versions have none
    if copy is not None:
        others = {place: what for place, what in _different(_copy(copy), manifest) if place not in found}
        where = f"the copy in {FOLDED}"
        lines += [f"{MANIFEST}: {shown(place)} {said}, but {where} {have}" for place, (said, have) in others.items()]
    return lines


def with_copy(folded: onnx.ModelProto, manifest: Mapping[str, Any]) -> onnx.ModelProto:
    """The reference graph, with what the manifest says as metadata."""
    onnx.helper.set_model_props(folded, {COPY: json.dumps(manifest, allow_nan=False)})
    return folded


Found = tuple[str, tuple[str, str]]  # (place in the manifest, (what it says, what is right))


def _copy(text: str) -> Any:
    try:
        return strict_json.parse(text)
    except ValueError as error:
        raise QuantizationError(f"the copy of {MANIFEST} in {FOLDED} is damaged ({error})") from error


def _derived(graphs: Graphs, optimization: str) -> dict[str, Any]:
    """Parts of the manifest, made anew."""
    first = next(iter(graphs.files.values())).graph
    opsets = {name: _opset(file) for name, file in graphs.files.items()}
    entries = input_entries(first)
    names = [output.name for output in first.output]
    return {
        "opset": max(opsets.values()),
        "formats": {
            name: {
                "file": f"{name}/{MODEL}",
                "bytes": graphs.sizes[name],
                "opset": opsets[name],
                "optimization": optimization,
            }
            for name in graphs.files
        },
        "float_parameter_bytes": float_bytes(graphs.trained.graph),
        "input": {"name": entries[0]["name"], "shape": entries[0]["shape"]},
        **({"inputs": entries} if len(entries) > 1 else {}),
        "outputs": names,
        "islands": [asdict(island) for island in islands(graphs.folded.graph)],
        **counted(graphs.folded.graph),
    }


def _opset(file: onnx.ModelProto) -> int:
    return max((entry.version for entry in file.opset_import if not entry.domain), default=0)


def _different(right: Any, said: Any, place: str = "") -> Iterator[Found]:
    """Where the second differs from the first; what only the second has is not compared within objects."""
    if isinstance(right, Mapping) and isinstance(said, Mapping):
        for key, value in right.items():
            yield from _different(value, said.get(key, _MISSING), f"{place}.{key}".lstrip("."))
    elif isinstance(right, (list, tuple)) and isinstance(said, (list, tuple)) and len(right) == len(said):
        for index, (ours, theirs) in enumerate(zip(right, said, strict=True)):
            yield from _different(ours, theirs, f"{place}[{_label(index, theirs)}]")
    elif said is _MISSING:
        if place.split(".")[0] not in _OPTIONAL and place.split(".")[-1] not in _OPTIONAL:
            yield place, ("is missing", f"have {_brief(right)}")
    elif right != said or isinstance(right, bool) != isinstance(said, bool):
        yield place, (f"is {_brief(said)}", f"have {_brief(right)}")


_OPTIONAL = {
    "opset",
    "optimization",
    "float_parameter_bytes",
    "wished",
    "why",
    "multiplications",
}  # older versions did not write them all


def _label(index: int, entry: object) -> str:
    name = entry.get("name") if isinstance(entry, Mapping) else None
    return f"{index}: {name}" if isinstance(name, str) else str(index)


def _brief(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True, default=list)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _grids(tensors: Sequence[Mapping[str, Any]], graphs: Graphs) -> Iterator[Found]:
    """The grid of every tensor: S, Z and the container from the integer graph, s and β from the trained one."""
    readers = [node for node in graphs.folded.graph if is_op(node, "DequantizeLinear")]
    read = {str(input_of(node).name): node for node in readers}
    markers = {quantizer_of(node): node for node in graphs.trained.graph if is_marker(node)}
    containers = {name: kind for file in graphs.files.values() for name, kind in code_types(file).items()}
    for index, entry in enumerate(tensors):
        place = f"tensors[{index}: {entry['name']}]"
        for key, right in _right_grid(entry, read, markers, containers):
            if not _same(entry[key], right):
                yield f"{place}.{key}", (f"is {_brief(entry[key])}", f"have {_brief(right)}")


def _right_grid(
    entry: Mapping[str, Any],
    read: Mapping[str, ir.Node],
    markers: Mapping[str, ir.Node],
    containers: Mapping[str, str],
) -> Iterator[tuple[str, Any]]:
    """(key, its value) of a tensor, as far as the graphs tell."""
    node, codes = read.get(entry["codes"]), entry["codes"]
    if node is None:
        yield "codes", None
        return
    if not entry.get("channels"):
        scale, zero_point = grid_of_codes(node)
        yield "container_scale", scale / FACTOR.get(node, 1.0) * _makers_factor(node)
        yield "zero_point", zero_point
    if codes in containers:
        yield "container", containers[codes]
    marker = markers.get(entry["name"])
    if entry["kind"] == "activation" and marker is None:
        yield "name", None
    elif entry["kind"] == "activation" and marker is not None and not is_merged(marker):
        yield "scale", grid_of(marker).scale


def _makers_factor(node: ir.Node) -> float:
    """The factor of the QuantizeLinear whose codes a DequantizeLinear reads: a Tanh's codes are those of a Sigmoid.

    A reader's own factor holds this one, and those of the multiplications that relabeled its grid (scaling.py).
    """
    maker = producer_of(node.inputs[0])
    if maker is not None and is_op(maker, "Clip"):
        maker = producer_of(maker.inputs[0])
    return 1.0 if maker is None else FACTOR.get(maker, 1.0)


def _same(said: Any, right: Any) -> bool:
    if isinstance(said, (int, float)) and isinstance(right, (int, float)):
        return abs(said - right) <= ROUNDING * max(abs(said), abs(right))
    return bool(said == right)


def _layers(layers: Sequence[Mapping[str, Any]], folded: ir.Graph) -> Iterator[Found]:
    """Scales, widths and sums of the layers, from their weights and biases."""
    nodes = {str(node.name): node for node in folded if is_op(node, *LAYERS)}
    named = [entry["name"] for entry in layers]
    if sorted(named) != sorted(nodes):
        odd = sorted({*named} ^ {*nodes}) or sorted(named)
        yield "layers", (f"has other layers, {_brief(odd[0])} for one", f"have {len(nodes)} in all")
        return
    for index, entry in enumerate(layers):
        node = nodes[entry["name"]]
        for key, right in _right_layer(node).items():
            said = entry.get(key, right)  # bundles of older versions lack the codes
            pairs = zip(said, right, strict=True) if isinstance(right, tuple) else [(said, right)]
            if not all(_same(a, b) for a, b in pairs):
                yield f"layers[{index}: {entry['name']}].{key}", (f"is {_brief(said)}", f"have {_brief(right)}")


def _right_layer(node: ir.Node) -> dict[str, Any]:
    _, scale = weight_codes(node)
    weight = weight_of(node)
    sums = np.abs(codes := centered_codes(node)).reshape(len(codes), -1).sum(axis=1, dtype=np.int64)
    return {
        "operator": node.op_type,
        "bits": BITS.read(weight.outputs[0]),
        "scale": (float(scale.min()), float(scale.max())),
        "dead_channels": int((sums == 0).sum()),
        "codes": histogram_of_weights(node),
    }


def _metadata(manifest: Mapping[str, Any], files: Mapping[str, onnx.ModelProto]) -> Iterator[Found]:
    """Classes, preprocessing and license, which each file says itself."""
    if "sample" not in manifest:  # of an older version
        return
    keys = {"classes": "classes", "preprocessing": "preprocessing", "license": "model_license"}
    origin = Origin(**{key: manifest.get(key) for key in keys})  # type: ignore[arg-type]  # the schema is stricter
    said = metadata_of(origin)
    for file in files.values():
        has = {entry.key: entry.value for entry in file.metadata_props}
        for key, prop in keys.items():
            if said.get(prop) != has.get(prop):
                yield key, (f"is {_brief(said.get(prop))}", f"have {_brief(has.get(prop))}")
