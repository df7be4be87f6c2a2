"""Masks that hold minus infinity, or numbers as large, for the scores of a softmax: no grid has such values.

masked_fill(zeros, padding, -inf)[:, None]      is read as it is, however it is moved before it is added
"""

from __future__ import annotations

import math

from torch import fx

from .float_functions import name_of, names

FILLS = names("masked_fill masked_fill_")
MOVES = names("getitem unsqueeze squeeze expand view reshape transpose permute to type_as contiguous repeat clone")
LARGE = 1e4  # float16 has no numbers far beyond; masks are this large or larger


def infinite_masks(graph: fx.Graph, constants: set[fx.Node]) -> set[fx.Node]:
    """What is filled with such a number, and what moves it. constants: what no input decides."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        filled = name_of(node) in FILLS and len(node.args) > 2 and _is_large(node.args[2])
        made_of = [maker for maker in node.all_input_nodes if maker not in constants]
        if filled or (name_of(node) in MOVES and bool(made_of) and made_of[0] in found):
            found.add(node)
    return found


def _is_large(value: object) -> bool:
    return isinstance(value, (int, float)) and (not math.isfinite(value) or abs(value) >= LARGE)
