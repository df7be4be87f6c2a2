"""check: what export will make of a model, before it is trained, in seconds.

The model is captured with grids that mean nothing, and only as far as it takes to tell integer from float.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from calib.garbage import few_collections
from calib.initialization.first_grids import look_on
from calib.quantized import Quantized, quantized_modules
from calib.tables import Table, Tabular
from calib.words import counted
from lsq_export.graph.capture import capture
from lsq_export.graph.grids import quantizer_of
from lsq_export.graph.islands import is_island
from lsq_export.graph.kept_float import is_wished, of_shapes
from lsq_export.graph.notes import FLOAT, SOURCE
from lsq_export.graph.operators import LAYERS
from lsq_export.graph.read import attribute, is_marker, is_op
from lsq_export.qat.prepare_model import QATConfig, config_of, prepare
from lsq_export.rewrite.contract.passes import State

from .fold import TRAINED

SHOWN_FLOAT = 40  # rows of what does not become integer, in a text


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One layer or operator.

    name: by its module. operator: of ONNX. kind: "integer", "float" (an island), or "no data": the example never
    reaches this layer. why: what keeps it float. source: file and line of the user's code, "" if not known.
    """

    name: str
    operator: str
    kind: str
    why: str = ""
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Output:
    """One output. shape: of one sample, None where a size varies."""

    name: str
    shape: tuple[int | None, ...]
    kind: str

    def __str__(self) -> str:
        sizes = " x ".join("?" if length is None else str(length) for length in self.shape)
        return f"output {self.name}: {sizes or 'one number'} a sample ({self.kind})"


@dataclass(frozen=True, kw_only=True, repr=False)
class Outlook(Tabular):
    """entries: layers and islands, in the order of the network. outputs: names, shapes and types."""

    entries: tuple[Entry, ...]
    outputs: tuple[Output, ...]

    def of_kind(self, kind: str) -> tuple[Entry, ...]:
        """The entries of one kind."""
        return tuple(entry for entry in self.entries if entry.kind == kind)

    def __repr__(self) -> str:
        """What does not become integer, and the outputs. All layers: `table`, entries, or a notebook."""
        whole = self.table
        rows = [row for row, entry in zip(whole.rows, self.entries, strict=True) if entry.kind != "integer"]
        notes = [f"integer: {', '.join(entry.name for entry in self.of_kind('integer'))}"] if self.entries else []
        return replace(whole, rows=rows, notes=[*notes, *map(str, self.outputs)]).text(SHOWN_FLOAT)

    @property
    def table(self) -> Table:
        """A row for each entry."""
        counts = {kind: len(self.of_kind(kind)) for kind in ("integer", "float", "no data")}
        title = (
            f"{counted(counts['integer'], 'layer becomes', 'layers become')} integer, "
            f"{counted(counts['float'], 'operator stays', 'operators stay')} float"
        )
        if counts["no data"]:
            title += f", {counted(counts['no data'], 'layer sees', 'layers see')} no data"
        rows = [(e.name, e.operator, e.kind, e.why, e.source) for e in self.entries]
        return Table(title, ("layer", "operator", "becomes", "why", "line"), rows)


def check(model: nn.Module, example: torch.Tensor) -> Outlook:
    """What `export` will make of a model: prepared, trained or not, or the float model itself.

    example: float [N, …], as for `export`. Nothing of the model is changed.

    Errors (QuantizationError): those of `prepare`, and of `export` before it folds.
    """
    with few_collections(model):
        return _outlook(model, example)


def _outlook(model: nn.Module, example: torch.Tensor) -> Outlook:
    if config_of(model) is None:
        model = prepare(model, QATConfig(edges="calibrated"))
    model = copy.deepcopy(model).eval()
    unseen = _with_any_grids(model, example)
    captured = capture(model, example, quick=True).model
    lines = {quantizer_of(node): SOURCE.get(node, "") for node in captured.graph if is_marker(node)}
    for step in TRAINED:
        step.run(captured, State())
    missing = [Entry(name=name, operator="", kind="no data") for name in unseen]
    found = [entry for node in captured.graph if (entry := _entry(node, lines)) is not None]
    return Outlook(entries=(*found, *missing), outputs=tuple(map(_output, captured.graph.outputs)))


def _with_any_grids(model: nn.Module, example: torch.Tensor) -> list[str]:
    """Give grids to the quantizers that have none; the names of the layers that the example does not reach."""
    seen: set[str] = set()

    def look(quantizer: nn.Module, given: tuple[Any, ...]) -> None:
        if isinstance(quantizer, Quantized) and given[0].is_floating_point():
            seen.add(quantizer.name)

    look_on(model, [example], look, any_data=True)
    unseen = []
    for name, quantizer in quantized_modules(model).items():
        if name not in seen and quantizer.kind == "activation":
            unseen.append(name.removesuffix("input").removesuffix("."))
        if not bool(quantizer.initialized):
            quantizer.set_grid(torch.ones_like(quantizer.scale), 0.0)
    return unseen


def _entry(node: ir.Node, lines: dict[str, str]) -> Entry | None:
    if is_op(node, *LAYERS):
        name = str(node.name)
        line = lines.get(f"{name}.weight" if name else "weight", "")
        return Entry(name=name, operator=node.op_type, kind="integer", source=SOURCE.get(node, line))
    if not is_island(node) or of_shapes(node) or (is_marker(node) and attribute(node, "kind") == "weight"):
        return None
    why = "as the configuration wishes" if is_wished(node) else FLOAT.get(node, "no integer form")
    source = SOURCE.get(node, "")
    return Entry(name=str(node.name), operator=node.op_type, kind="float", why=why, source=source)


def _output(value: ir.Value) -> Output:
    sizes = tuple(size if isinstance(size, int) else None for size in value.shape or ())
    return Output(name=str(value.name), shape=sizes[1:], kind=value.dtype.name.lower() if value.dtype else "")
