"""Which layers cost most: each is quantized alone, the rest of the network stays float.

found = sensitivity(network, batches)       found.rows[0].layer     the one that costs most
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from calib.batches import InputKey, read_batches
from calib.door import unwrapped
from calib.errors import QuantizationError
from calib.quantized import quantized_modules
from calib.samples import Input, parts_of
from calib.signature import Takes, takes_of
from calib.tables import Table, Tabular
from calib.words import counted
from lsq_export.adoption.network import OnnxNetwork
from lsq_export.graph.capture import forward
from lsq_export.graph.evaluate import evaluate, portions_of
from lsq_export.graph.read import attribute, data_readers, is_marker, producer_of
from lsq_export.verification.agreement import Agreement
from lsq_export.verification.class_axis import CHANNELS, class_axis
from lsq_export.verification.numbers import decibel, percent

EDGES = "(edges)"  # trained grids that belong to no layer
KINDS = ("input", "weight")
PORTION = 32  # samples of a PyTorch network at once
Outputs = Callable[[Input, Collection[str]], list[np.ndarray]]  # (x, names of the quantizers in use)


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """What quantizing one layer alone costs. weight_bits, input_bits: None where it has no such grid.

    sqnr_db: of the worst output against float. same_class: share of the classes that are those of float; None:
    its outputs have none.
    """

    layer: str
    weight_bits: int | None
    input_bits: int | None
    sqnr_db: float
    same_class: float | None


@dataclass(frozen=True, kw_only=True, repr=False)
class Sensitivity(Tabular):
    """rows: the layers, those that cost most first. together: all quantized. images: that were looked at."""

    rows: tuple[LayerCost, ...]
    together: LayerCost
    images: int

    @property
    def table(self) -> Table:
        """What is shown."""
        columns = ("layer", ">weight bits", ">input bits", ">error below the outputs", ">same class")
        rows = [
            (r.layer, r.weight_bits, r.input_bits, decibel(r.sqnr_db), percent(r.same_class))
            for r in (*self.rows, self.together)
        ]
        return Table(
            f"Each layer quantized alone, {counted(self.images, 'image')}, those that cost most first", columns, rows
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: an infinite SQNR (no error at all) is None."""
        return {
            "images": self.images,
            "layers": [_plain(row) for row in self.rows],
            "together": _plain(self.together),
        }


def sensitivity(
    network: nn.Module | OnnxNetwork,
    batches: Iterable[object],
    *,
    input_key: InputKey | None = None,
    progress: Callable[[str], None] = lambda layer: None,
) -> Sensitivity:
    """Measure what each layer of a quantized network costs when all others are float: one pass for each layer.

    network: what `calibrate`, or `prepare` and `calib.initialize` gave. batches: inputs [N, …], or (input,
    target) pairs; held in memory, since every layer sees the same ones: some 64 samples tell layers apart.
    progress: called with the name of each layer that was measured.

    Errors (QuantizationError): no quantizers, an adopted network, no batches, a batch that the network does not take.
    """
    switches = _of_graph(network) if isinstance(network, OnnxNetwork) else _of_module(network)
    xs = [part for x, _ in read_batches(batches, input_key, takes=switches.takes) for part in switches.parts(x)]
    if not any(len(x) for x in xs):
        raise QuantizationError("no batches: give some samples on which layers can be compared")
    expected = [switches.outputs(x, ()) for x in xs]

    def measured(layer: str, names: Collection[str]) -> LayerCost:
        found = Agreement(switches.axis)
        for x, plain in zip(xs, expected, strict=True):
            found.add(switches.outputs(x, names), plain, None, len(x))
        input_bits, weight_bits = (
            min((switches.bits[name] for name in names if switches.kinds[name] == kind), default=None) for kind in KINDS
        )
        progress(layer)
        return LayerCost(
            layer=layer,
            weight_bits=weight_bits,
            input_bits=input_bits,
            sqnr_db=found.sqnr_db,
            same_class=found.top1,
        )

    rows = [measured(layer, names) for layer, names in switches.layers.items()]
    together = measured("(together)", tuple(switches.bits))
    rows.sort(key=lambda row: (row.sqnr_db, row.same_class or 0.0))
    return Sensitivity(rows=tuple(rows), together=together, images=sum(map(len, xs)))


@dataclass(frozen=True, kw_only=True)
class _Switches:
    """A network whose quantizers can be switched. layers: {layer: its quantizers}. bits, kinds: {quantizer: …}.

    axis: along which the classes of the first output lie.
    """

    layers: Mapping[str, Collection[str]]
    bits: Mapping[str, int]
    kinds: Mapping[str, str]
    takes: Takes
    axis: int
    parts: Callable[[Any], Iterable[Any]]
    outputs: Outputs


def _of_module(model: nn.Module) -> _Switches:
    model = unwrapped(model)
    grids = {name: q for name, q in quantized_modules(model).items() if not (q.left_out or q.of_integers)}
    if not grids:
        raise QuantizationError("the model has no quantizers: give what calibrate or prepare returned")
    layers: dict[str, list[str]] = {}
    for name in grids:
        layer, _, kind = name.rpartition(".")
        layers.setdefault(layer or "(the model)" if kind in KINDS else EDGES, []).append(name)

    def outputs(x: Input, used: Collection[str]) -> list[np.ndarray]:
        before = {q: q.bypass for q in grids.values()}
        try:
            for name, quantizer in grids.items():
                quantizer.bypass = name not in used
            return [output.detach().cpu().numpy() for output in forward(model, x)]
        finally:
            for quantizer, bypass in before.items():
                quantizer.bypass = bypass

    return _Switches(
        layers=layers,
        bits={name: q.bits for name, q in grids.items()},
        kinds={name: "weight" if q.kind == "weight" else "input" for name, q in grids.items()},
        takes=takes_of(model),
        axis=CHANNELS,
        parts=lambda x: parts_of(x, PORTION),
        outputs=outputs,
    )


def _of_graph(network: OnnxNetwork) -> _Switches:
    if network.trained:
        raise QuantizationError(
            f"{network.name} was quantized elsewhere: grids of such a file do the work of ReLUs, and no layer of it "
            "can be compared with float; give what calibrate made of the float network"
        )
    graph = network.captured.model.graph
    markers = {str(attribute(node, "quantizer")): node for node in graph if is_marker(node)}
    layers: dict[str, list[str]] = {}
    for name, marker in markers.items():
        if attribute(marker, "kind") == "weight":
            layer = _layer_of(marker)
            given = producer_of(layer.inputs[0]) if layer is not None else None
            shared = [str(attribute(given, "quantizer"))] if given is not None and is_marker(given) else []
            layers[name.removesuffix(".weight")] = [*shared, name]
    of_layers = {name for names in layers.values() for name in names}
    edges = [name for name in markers if name not in of_layers]
    if edges:
        layers[EDGES] = edges

    names = {str(marker.outputs[0].name): name for name, marker in markers.items()}

    def outputs(x: Input, used: Collection[str]) -> list[np.ndarray]:
        def on_node(made: ir.Value, inputs: list[torch.Tensor | None], _: torch.Tensor) -> torch.Tensor | None:
            name = names.get(str(made.name))
            return None if name is None or name in used else inputs[0]

        return [output.numpy() for output in evaluate(graph, x, dtype=torch.float32, on_node=on_node)]

    return _Switches(
        layers=layers,
        bits={name: int(attribute(marker, "bits")) for name, marker in markers.items()},
        kinds={name: "weight" if attribute(m, "kind") == "weight" else "input" for name, m in markers.items()},
        takes=network.takes,
        axis=class_axis(graph),
        parts=lambda x: portions_of(x, graph),
        outputs=outputs,
    )


def _layer_of(marker: ir.Node) -> ir.Node | None:
    """The layer that reads a weight, through a Transpose where there is one."""
    readers = data_readers(marker.outputs[0])
    while len(readers) == 1 and readers[0].op_type == "Transpose":
        readers = data_readers(readers[0].outputs[0])
    return readers[0] if readers else None


def _plain(row: LayerCost) -> dict[str, Any]:
    values = asdict(row)
    return values | {"sqnr_db": row.sqnr_db if math.isfinite(row.sqnr_db) else None}
