"""A float network and a checkpoint of another library -> a fake-quant network with the library's own grids.

read -> trace -> names -> batch norms -> parameters -> grids
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from calib.door import check_model
from calib.signature import example_of
from lsq_export.adoption.left import Left
from lsq_export.qat.known_types import note_types
from lsq_export.qat.layer_types import QUANTIZED_LAYERS
from lsq_export.qat.origins import ADOPTED
from lsq_export.qat.plain import copied, in_float32, without_wrappers
from lsq_export.qat.tracing import trace
from lsq_export.qat.untrained import note_origin

from .asking import grid_of
from .assigning import assign
from .biases import round_to_products
from .layer_values import weight_of
from .learned import Learned, Raw
from .mapping import UserMapping, listed, read_mapping
from .module_encodings import read_module_encodings
from .norms import norms_behind, scale_into_layers, without_norms
from .parameters import Names, load_strictly, without_grids
from .placing import put_activation, put_weight, simulate, why_not
from .ranges import odd_logarithms, odd_ranges
from .reading import Checkpoint, read_checkpoint_file
from .sites import Site, module_at
from .stubs import with_stubs
from .ties import rounded_otherwise
from .weight_codes import axis_of_lists, with_axis
from .weight_ranges import grid_of_largest

NO_GRID = "it stays float: no grid for its weight"


@dataclass(frozen=True, kw_only=True)
class AdoptedModel:
    """module: the network with the grids of the checkpoint, in eval mode. library: whose they are, for messages.

    left: what cannot be carried as the library has it, and why. places: {quantizer of the file: quantizer here}.
    """

    module: nn.Module
    library: str
    left: tuple[Left, ...]
    places: Mapping[str, str]


def read_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    example: Any,
    *,
    mapping: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    bits: int | None = None,
    encodings: str | os.PathLike[str] | None = None,
) -> AdoptedModel:
    """The float network `model`, which stays as it is, as another library quantized it.

    path: a state_dict with learned grids. example: an input, [N, …]. mapping, bits: what the file does not say
    (`mapping.py`). encodings: AIMET's file of grids by names of modules, beside a plain state_dict.

    Errors (QuantizationError): files that cannot be read, grids whose bits or place nobody says, parameters that are
    not the network's; each in one line.
    """
    check_model(model)
    said = read_mapping(mapping, bits)
    float_model = copied(in_float32(without_wrappers(model))).eval()
    beside = () if encodings is None else read_module_encodings(encodings)
    own = list(float_model.state_dict())
    file = read_checkpoint_file(path, own, said, beside)
    example = example_of(float_model, example)
    traced = trace(with_stubs(float_model), [], example)
    note_types(traced, example)
    traced.eval()
    pairs = norms_behind(traced)
    names = Names(traced, file.library, said, pairs)
    found = assign(traced, file, said, names)
    gone = _load(traced, file, names, pairs, own, said.skip)
    _take_codes(traced, file, found.codes)
    norms = said.norms or (file.library.norms if file.library is not None else "apart")
    if norms == "scaled" and not gone:
        apart = names.apart(file.tensors) if file.library is not None and file.library.nested else ()
        fused = {layer: norm for layer, norm in pairs.items() if norm not in apart}
        gone = scale_into_layers(traced, fused, set(found.weights))
    activations = [
        (raw, [Site(gone.get(site.node, site.node), site.reader) for site in sites]) for raw, sites in found.activations
    ]
    return _with_grids(traced, file, said, found.weights, activations, example)


def _load(
    traced: fx.GraphModule, file: Checkpoint, names: Names, pairs: dict[str, str], own: list[str], skip: Sequence[str]
) -> dict[fx.Node, fx.Node]:
    """Load all that is no quantizer's. Returns what `without_norms` does, where the file has none.

    pairs: {layer: batch norm behind it}. own: names of the whole network's tensors; a part that its forward does not
    use may be in the file. skip: patterns of names; what the network has not is then left out.
    """
    modules = {name for name, module in traced.named_modules() if module.state_dict()}
    used = {name for raw in file.raws for name in raw.used}
    prefixes = {raw.name for raw in file.raws if raw.used and names.of(raw.name) not in modules}
    rest = without_grids(file.tensors, used, prefixes)
    tensors = {names.of(name): tensor for name, tensor in rest.items()}
    of_norms = any(name.rpartition(".")[0] in pairs.values() for name in tensors)
    folded = bool(pairs) and not of_norms and all(f"{layer}.bias" in tensors for layer in pairs)
    gone = without_norms(traced, pairs) if folded else {}
    state = traced.state_dict()
    beside = [name for name in tensors if name not in state and (name in own or listed(name, skip))]
    load_strictly(traced, {name: tensor for name, tensor in tensors.items() if name not in beside}, file.where)
    return gone


@torch.no_grad()
def _take_codes(traced: fx.GraphModule, file: Checkpoint, codes_of: Mapping[str, str]) -> None:
    """Weights that the file has as codes are these times their scales: the floats beside them are not used."""
    for layer, name in codes_of.items():
        codes, scale = (torch.as_tensor(file.tensors[key]) for key in (name, f"{name}.scale"))
        weight_of(traced.get_submodule(layer)).copy_(codes * scale.reshape(-1, *[1] * (codes.dim() - 1)))


def _with_grids(
    traced: fx.GraphModule,
    file: Checkpoint,
    said: UserMapping,
    weights: Mapping[str, Raw],
    activations: list[tuple[Raw, list[Site]]],
    example: Any,
) -> AdoptedModel:
    calls = [node for node in traced.graph.nodes if isinstance(module_at(traced, node), QUANTIZED_LAYERS)]
    layers = list(dict.fromkeys(str(node.target) for node in calls))
    grids = _grids_of_weights(traced, file, said, weights)
    if file.library is not None and file.library.largest:
        rest = [layer for layer in layers if layer not in grids and not listed(layer, said.float)]
        grids |= {layer: grid_of_largest(traced, layer, said, file.where) for layer in rest}
    left: list[Left] = []
    for layer, grid in list(grids.items()):
        why = why_not(grid, traced.get_submodule(layer))
        if why is None:
            put_weight(traced, layer, grid)
        else:
            left.append(Left(layer, why))
            simulate(traced, layer, grid)
            del grids[layer]
    floats = [layer for layer in layers if layer not in grids]
    left += [Left(layer, NO_GRID) for layer in floats if layer not in {entry.name for entry in left}]
    traced.kept_float = tuple(floats)  # type: ignore[assignment]
    made = _put_activations(traced, file, said, activations, left)
    if said.bias == "int32":
        round_to_products(traced, grids, made)
    traced.graph.lint()
    traced.recompile()
    left += rounded_otherwise(traced, made, example)
    left += odd_logarithms(traced, _trained_ranges(file, said, made), example)
    numbered = file.library.numbered if file.library is not None else None
    if numbered is not None:
        counted = {n for n, g in made.items() if numbered.pattern.fullmatch(g.raw.name)}
        left += odd_ranges(traced, [n for n in counted if made[n].raw.name not in said.places], example)
    places = {grid.raw.name: name for name, grid in made.items()} | {
        grid.raw.name: f"{layer}.weight" for layer, grid in grids.items()
    }
    library = file.library.name if file.library is not None else "the mapping"
    note_origin(traced, ADOPTED)
    return AdoptedModel(module=traced, library=library, left=tuple(left), places=places)


def _trained_ranges(file: Checkpoint, said: UserMapping, made: Mapping[str, Learned]) -> dict[str, float]:
    """{quantizer: its range, as the file has it}, where the file does not say what it is, and nobody does."""
    if said.ranges is not None or file.library is None or file.library.name != "Brevitas":
        return {}
    values = {name: file.tensors.get(grid.raw.used[0]) for name, grid in made.items() if grid.raw.used}
    return {name: float(value) for name, value in values.items() if value is not None and value.numel() == 1}


def _grids_of_weights(
    traced: fx.GraphModule, file: Checkpoint, said: UserMapping, weights: Mapping[str, Raw]
) -> dict[str, Learned]:
    found = {layer: grid_of(raw, file, said) for layer, raw in weights.items()}
    modules = {layer: traced.get_submodule(layer) for layer in found}
    one_axis = file.library is not None and file.library.one_axis
    axis = axis_of_lists(found, modules) if one_axis else None
    return {layer: with_axis(grid, layer, modules[layer], axis) for layer, grid in found.items()}


def _put_activations(
    traced: fx.GraphModule,
    file: Checkpoint,
    said: UserMapping,
    found: list[tuple[Raw, list[Site]]],
    left: list[Left],
) -> dict[str, Learned]:
    """{quantizer: its grid}. left: gets what cannot be carried. Those for all readers come before those for one."""
    tips: dict[fx.Node, fx.Node] = {}
    made: dict[str, Learned] = {}
    for raw, sites in sorted(found, key=lambda pair: pair[1][0].reader is not None):
        grid = grid_of(raw, file, said)
        why = why_not(grid)
        if why is None:
            made[put_activation(traced, grid, sites, tips)] = grid
        else:
            left.append(Left(raw.name, why))
    return made
