"""Operators that have no integer form stay float operators between grids, and are named.

    Gelu(DequantizeLinear(x)) -> QuantizeLinear     stays as it is in `qoperator`; a row of them needs no grid between

Every input is a value of a grid and every output is rounded to one, so that the integers around an island stay exact.
What an island computes depends on the runtime's float32 functions: the codes after it can differ by one where two of
them round a tie differently.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from calib.errors import QuantizationError

from .operators import ISLANDS
from .read import is_op


@dataclass(frozen=True, kw_only=True)
class Island:
    """One operator that stays float.

    codes: the tensors of codes that are made from its output, directly or through other islands.
    """

    name: str
    operator: str
    codes: tuple[str, ...]


def is_island(node: ir.Node | None) -> bool:
    return is_op(node, *ISLANDS)


def inside_island(value: ir.Value) -> bool:
    """Made by an island and read by islands only: it stays float."""
    readers = list(value.consumers())
    return (
        is_island(value.producer()) and not value.is_graph_output() and bool(readers) and all(map(is_island, readers))
    )


def islands(graph: ir.Graph) -> tuple[Island, ...]:
    """Of a folded graph."""
    return tuple(
        Island(name=str(node.name), operator=node.op_type, codes=tuple(_codes_after(node)))
        for node in graph
        if is_island(node)
    )


def _codes_after(node: ir.Node) -> list[str]:
    found = []
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
        names = ", ".join(f"{island.name} ({island.operator})" for island in found)
        raise QuantizationError(f"{names}: no integer form, and islands of float are not allowed (strict_integer)")
