"""Operators that have no integer form, and layers that shall stay float, are float operators between grids, by name.

    Gelu(DequantizeLinear(x)) -> QuantizeLinear     stays as it is in `qoperator`; a row of them needs no grid between

Every input is a value of a grid and every output is rounded to one, so that the integers around an island stay exact.
A layer that is kept float by the configuration (kept_float.py) also takes a float input of the network, and gives a
float output of it: there is no grid at these ends.

What an island computes depends on the runtime's float32 functions: the codes after it can differ by one where two of
them round a tie differently.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from calib.errors import QuantizationError

from .kept_float import is_float_layer, stays_float
from .operators import ISLANDS
from .read import is_op


@dataclass(frozen=True, kw_only=True)
class Island:
    """One operator that stays float.

    codes: the tensors of codes that are made from its output, directly or through other islands; the network's output
    where it stays float. wished: it has an integer form, but the configuration keeps it float.
    """

    name: str
    operator: str
    codes: tuple[str, ...]
    wished: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.operator}{', kept float' if self.wished else ''})"


def is_island(node: ir.Node | None) -> bool:
    return is_op(node, *ISLANDS) or stays_float(node)


def inside_island(value: ir.Value) -> bool:
    """Made by an island, or the network's input into layers kept float, and read by islands only: it stays float."""
    producer, readers = value.producer(), list(value.consumers())
    if producer is None:
        return bool(readers) and all(map(is_float_layer, readers))
    return is_island(producer) and not value.is_graph_output() and bool(readers) and all(map(is_island, readers))


def float_outputs(graph: ir.Graph) -> set[str]:
    """Names of the network's outputs that islands make."""
    return {str(output.name) for output in graph.outputs if is_island(output.producer())}


def islands(graph: ir.Graph) -> tuple[Island, ...]:
    """Of a folded graph."""
    return tuple(
        Island(
            name=str(node.name),
            operator=node.op_type,
            codes=tuple(_codes_after(node)),
            wished=stays_float(node),
        )
        for node in graph
        if is_island(node) and not _keeps_apart(node)
    )


def _keeps_apart(node: ir.Node) -> bool:
    """The sum of one value after a layer kept float (rewrite/folding/keep_float.py)."""
    return is_op(node, "Sum") and len(node.inputs) == 1


def _codes_after(node: ir.Node) -> list[str]:
    found = [str(node.outputs[0].name)] if node.outputs[0].is_graph_output() else []
    for reader in node.outputs[0].consumers():
        if is_op(reader, "QuantizeLinear"):
            found.append(str(reader.outputs[0].name))
            found += [str(n.outputs[0].name) for n in reader.outputs[0].consumers() if is_op(n, "Clip")]
        elif is_island(reader):
            found += _codes_after(reader)
    return list(dict.fromkeys(found))


def refuse(found: tuple[Island, ...]) -> None:
    """strict_integer: an island is an error that names them."""
    if found:
        causes = {False: "no integer form", True: "kept float by the settings of single layers"}
        named = [
            (why, [f"{i.name} ({i.operator})" for i in found if i.wished == wished]) for wished, why in causes.items()
        ]
        said = "; ".join(f"{', '.join(names)}: {why}" for why, names in named if names)
        raise QuantizationError(f"{said}; strict_integer=True allows no float between integers")
