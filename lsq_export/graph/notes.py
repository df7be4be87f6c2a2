"""Facts about a graph that no operator holds: notes on nodes and values, typed, in onnx_ir's metadata.

    BITS.write(value, 4)        BITS.read(value) == 4        BITS.on(value)

A note survives `copy`, and stays in the reference graphs of a bundle; nodes of files for runtimes have none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import onnx_ir as ir

T = TypeVar("T")
WISHED = "as QATConfig(layers=...) wishes"  # why a layer is kept float; earlier versions wrote True


@dataclass(frozen=True)
class Note(Generic[T]):
    """One kind of fact. key: its name in the metadata. decode: makes the fact of plain JSON values."""

    key: str
    decode: Callable[[Any], T]

    def write(self, subject: ir.Node | ir.Value | ir.Graph, fact: T) -> None:
        """Note the fact; it takes the place of an earlier one."""
        subject.metadata_props[self.key] = json.dumps(fact, default=asdict)

    def on(self, subject: ir.Node | ir.Value | ir.Graph) -> bool:
        """Whether there is such a note."""
        return self.key in subject.metadata_props

    def read(self, subject: ir.Node | ir.Value | ir.Graph) -> T:
        """The fact; KeyError where nobody noted it."""
        return self.decode(json.loads(subject.metadata_props[self.key]))

    def get(self, subject: ir.Node | ir.Value | ir.Graph, default: T) -> T:
        """The fact, or the default."""
        return self.read(subject) if self.on(subject) else default


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of several quantizers whose markers became one: as many channels are its own, on a step `scale`."""

    quantizer: str
    channels: int
    scale: float


# Of the values of a weight: the width that it was trained with.
BITS: Note[int] = Note("bits", int)
# Of a QuantizeLinear or DequantizeLinear: its values are these times what its scale says (scaling.py, tanh.py).
FACTOR: Note[float] = Note("factor", float)
# Of the DequantizeLinear of a constant that is an operand: the output's scale may move, not the constant.
OPERAND: Note[bool] = Note("operand", bool)
# Of a depthwise 1×1 convolution that equalizes the steps of merged convolutions (equalize.py).
EQUALIZES: Note[bool] = Note("equalizes", bool)
# Of a marker: the quantizers that it stands for, in the order of their channels (merge_parallel.py).
PARTS: Note[tuple[Part, ...]] = Note("parts", lambda rows: tuple(Part(**row) for row in rows))
# Of an operator that moves codes: the quantizers whose grids moved to the other side of it, the last one first.
PASSED: Note[tuple[str, ...]] = Note("passed", tuple)
# Of an operator that stays as it is, and why (graph/kept_float.py): no pass takes it for one that becomes integers.
FLOAT: Note[str] = Note("float", lambda why: WISHED if why is True else str(why))
# Of a captured operator: the line of the user's code that it comes from, "net.py:12".
SOURCE: Note[str] = Note("source", str)
# Of a captured graph: its outputs get grids, so that files can give codes.
GRIDDED: Note[bool] = Note("gridded", bool)


OURS = {note.key for note in (BITS, FACTOR, OPERAND, EQUALIZES, PARTS, PASSED, FLOAT, SOURCE, GRIDDED)}


def strip(model: ir.Model) -> None:
    """Remove what torch's exporter noted on nodes, and doc strings; our notes stay."""
    for subject in (model.graph, *model.graph):
        ours = {key: text for key, text in subject.metadata_props.items() if key in OURS}
        subject.metadata_props.clear()
        subject.metadata_props.update(ours)
        subject.doc_string = None
