"""A float network and a checkpoint of another library -> a fake-quant network with the library's own grids.

read -> trace -> names -> batch norms -> parameters -> grids
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import fx, nn

from calib.door import check_model
from calib.errors import QuantizationError
from calib.signature import example_of
from lsq_export.adoption.left import Left
from lsq_export.qat.known_types import note_types
from lsq_export.qat.layer_types import QUANTIZED_LAYERS
from lsq_export.qat.plain import copied, in_float32, without_wrappers
from lsq_export.qat.tracing import trace

from .asking import grid_of
from .biases import round_to_products
from .frozen import layers_of_frozen
from .learned import Learned, Raw
from .mapping import UserMapping, read_mapping
from .module_encodings import read_module_encodings
from .norms import norms_behind, scale_into_layers, without_norms
from .numbered import Slot, slots_of
from .parameters import Names, load_strictly, without_grids
from .placing import put_activation, put_weight, why_not
from .reading import Checkpoint, read_checkpoint_file
from .sites import Site, Sites, module_at
from .weight_ranges import grid_of_largest

WEIGHT = "weight"
FROZEN = "_frozen_param"


@dataclass(frozen=True, kw_only=True)
class AdoptedModel:
    """module: the network with the grids of the checkpoint, in eval mode. library: whose they are, in a message.

    left: what cannot be carried as the library has it, and why. places: {quantizer: where it went}.
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
    file = read_checkpoint_file(path, list(float_model.state_dict()), said, beside)
    example = example_of(float_model, example)
    traced = trace(float_model, [], example)
    note_types(traced, example)
    traced.eval()
    return _Adoption(traced, file, said).run()


class _Adoption:
    """One adoption. traced: is changed."""

    def __init__(self, traced: fx.GraphModule, file: Checkpoint, said: UserMapping) -> None:
        self._traced, self._file, self._said = traced, file, said
        self._library = file.library
        self._pairs = norms_behind(traced)
        self._names = Names(traced, file.library, said, self._pairs)
        self._raws = [raw for raw in file.raws if not _matches(raw.place, said.skip)]
        self._left: list[Left] = []
        self._places: dict[str, str] = {}
        self._stored: dict[str, str] = {}  # {layer: the tensor that has the codes of its weight}

    def run(self) -> AdoptedModel:
        weights, activations = self._placed()
        tensors = self._parameters()
        folded = self._without_norms(tensors)
        load_strictly(self._traced, tensors, self._file.where)
        self._take_codes()
        norms = self._said.norms or (self._library.norms if self._library is not None else "apart")
        if norms == "scaled" and not folded:
            scale_into_layers(self._traced, self._pairs, set(weights))
        grids = {layer: grid_of(raw, self._file, self._said) for layer, raw in weights.items()}
        grids |= self._of_largest(weights)
        self._put_weights(grids)
        products = self._put_activations(activations)
        if self._said.bias == "int32":
            round_to_products(self._traced, grids, products)
        self._traced.graph.lint()
        self._traced.recompile()
        name = self._library.name if self._library is not None else "the mapping"
        return AdoptedModel(module=self._traced, library=name, left=tuple(self._left), places=self._places)

    def _placed(self) -> tuple[dict[str, Raw], list[tuple[Raw, list[Site]]]]:
        """({layer: the grid of its weight}, [(a grid, its places)])"""
        slots = self._counted()
        sites = Sites(self._traced, self._library is not None and self._library.follows)
        weights: dict[str, Raw] = {}
        activations: list[tuple[Raw, list[Site]]] = []
        lost: list[Raw] = []
        for raw in sorted(self._raws, key=_depth):
            slot = slots.get(raw.name) or self._slot(raw, sites)
            if slot.layer is not None:
                weights[slot.layer] = raw
            elif slot.sites:
                activations.append((raw, list(slot.sites)))
            else:
                lost.append(raw)
        if lost:
            raise QuantizationError(self._no_place(lost))
        self._places |= {raw.name: f"{layer}.weight" for layer, raw in weights.items()}
        return weights, activations

    def _slot(self, raw: Raw, sites: Sites) -> Slot:
        given = self._said.places.get(raw.place, self._said.places.get(raw.name))
        if given is not None and given.endswith(".input"):
            return Slot(sites=tuple(sites.of_input(given.removesuffix(".input"))))
        if given is not None and given.endswith(".weight"):
            return Slot(layer=sites.layer(given.removesuffix(".weight")))
        place = self._names.of(raw.place) if given is None else given
        if raw.role == WEIGHT:
            return Slot(layer=sites.layer(place))
        if raw.role == "input":
            return Slot(sites=tuple(sites.of_input(place)))
        return Slot(sites=tuple(sites.of_output(place)))

    def _counted(self) -> dict[str, Slot]:
        """Of quantizers that have numbers for names, unless the user says where they are."""
        if self._library is not None and self._library.frozen:
            return self._frozen()
        numbered = self._library.numbered if self._library is not None else None
        if numbered is None:
            return {}
        counted = [raw for raw in self._raws if numbered.pattern.fullmatch(raw.name)]
        if not counted or all({raw.name, raw.place} & set(self._said.places) for raw in counted):
            return {}
        found = slots_of(self._traced, counted, numbered)
        if found is None:
            raise QuantizationError(
                f"{self._file.where}: its {len(counted)} quantizers are counted ({counted[0].name}, …), and fit "
                "neither every tensor of the network nor the inputs of its layers: say where each is, in [places] of a "
                "mapping file"
            )
        return {name: slot for name, slot in found.items() if name not in self._said.places}

    def _frozen(self) -> dict[str, Slot]:
        raws = [raw for raw in self._raws if raw.used and not {raw.name, raw.place} & set(self._said.places)]
        if all(raw.role == WEIGHT for raw in self._raws):
            raise QuantizationError(
                f"{self._file.where} is of a converted graph, whose code has the grids of activations, not the file: "
                "adopt its ONNX export, save the state_dict before it is converted, or give these grids as "
                "numbers in a mapping file (docs/adopting.md)"
            )
        of_graph = [raw for raw in raws if raw.name.startswith(FROZEN)]
        tensors = {self._names.of(name): value for name, value in self._file.tensors.items()}
        bits = self._said.bits_of(weight=True)
        layers = layers_of_frozen(self._traced, of_graph, tensors, bits, self._file.where)
        self._stored = {layer: name for name, layer in layers.items() if name in self._file.tensors}
        return {name: Slot(layer=layer) for name, layer in layers.items()}

    @torch.no_grad()
    def _take_codes(self) -> None:
        """Weights that the file has as codes are these times their scales: the floats beside them are not used."""
        for layer, name in self._stored.items():
            module = self._traced.get_submodule(layer)
            codes, scale = (torch.as_tensor(self._file.tensors[key]) for key in (name, f"{name}.scale"))
            module.weight.copy_(codes * scale.reshape(-1, *[1] * (codes.dim() - 1)))

    def _no_place(self, lost: list[Raw]) -> str:
        names = ", ".join(dict.fromkeys(raw.place for raw in lost[:3]))
        more = f", … ({len(lost)} in all)" if len(lost) > 3 else ""
        there = [node.name for node in self._traced.graph.nodes if node.op not in ("output", "get_attr")]
        return (
            f"{self._file.where}: the network has no {names}{more}: say where in [places] of a mapping file, "
            f'"{lost[0].place}" = one of {", ".join(there[:6])}, …'
        )

    def _parameters(self) -> dict[str, torch.Tensor]:
        """{name in the network: tensor}"""
        modules = {name for name, _ in self._traced.named_modules()}
        used = {name for raw in self._file.raws for name in raw.used}
        prefixes = {raw.name for raw in self._file.raws if raw.used and self._names.of(raw.name) not in modules}
        rest = without_grids(self._file.tensors, used, prefixes)
        return {self._names.of(name): tensor for name, tensor in rest.items()}

    def _without_norms(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        """Leave the batch norms out where the file has none, and biases in their place."""
        of_norms = [name for name in tensors if name.rpartition(".")[0] in self._pairs.values()]
        if not self._pairs or of_norms or not all(f"{layer}.bias" in tensors for layer in self._pairs):
            return False
        without_norms(self._traced, self._pairs)
        return True

    def _of_largest(self, weights: Mapping[str, Raw]) -> dict[str, Learned]:
        """Grids of weights that the library takes from the weights themselves."""
        if self._library is None or not self._library.largest:
            return {}
        layers = [
            str(node.target)
            for node in self._traced.graph.nodes
            if isinstance(module_at(self._traced, node), QUANTIZED_LAYERS)
        ]
        rest = [layer for layer in layers if layer not in weights and not _matches(layer, self._said.float)]
        return {layer: grid_of_largest(self._traced, layer, self._said, self._file.where) for layer in rest}

    def _put_weights(self, grids: dict[str, Learned]) -> None:
        for layer, grid in list(grids.items()):
            why = why_not(grid, self._traced.get_submodule(layer))
            if why is not None:
                self._left.append(Left(layer, why))
                del grids[layer]
                continue
            put_weight(self._traced, layer, grid)

    def _put_activations(self, found: list[tuple[Raw, list[Site]]]) -> dict[fx.Node, Learned]:
        """{quantizer's node: its grid}. Outputs come first, the inner ones of a name before the outer."""
        tips: dict[fx.Node, fx.Node] = {}
        in_order = sorted(found, key=lambda pair: pair[1][0].reader is not None)
        made: dict[str, Learned] = {}
        for raw, sites in in_order:
            grid = grid_of(raw, self._file, self._said)
            why = why_not(grid)
            if why is not None:
                self._left.append(Left(raw.name, why))
                continue
            name = put_activation(self._traced, grid, sites, tips)
            made[name] = grid
            self._places[raw.name] = name
        return {n: made[str(n.target)] for n in self._traced.graph.nodes if n.op == "call_module" and n.target in made}


def _depth(raw: Raw) -> int:
    """Parts of a module come before it: silu.mul is inside of silu."""
    return -raw.place.count(".")


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
