"""Grids of outputs that are codes, held against the folded graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import onnx_ir as ir

from lsq_export.graph.grids import grid_of_codes
from lsq_export.graph.read import is_op

from .quantized_outputs import KEY, grids_of

HALF = 128  # what INT8 codes are less than unsigned ones
ROUNDING = 1e-6  # relative: float32


def wrong_grids(formats: Mapping[str, Any], folded: ir.Graph) -> Iterator[tuple[str, tuple[str, str]]]:
    """(place in the manifest, (what it says, what the folded graph has)) of grids that are not that graph's."""
    made_by = {value.name: value.producer() for value in folded.outputs}
    for name, entry in formats.items():
        for output, grid in grids_of(entry).items():
            node, place = made_by.get(output), f"formats.{name}.{KEY}.{output}"
            if node is None or not is_op(node, "DequantizeLinear"):
                yield place, ("has a grid", "have no codes there")
                continue
            scale, zero_point = grid_of_codes(node)
            if abs(grid.scale - scale) > ROUNDING * scale:
                yield f"{place}.scale", (f"is {grid.scale}", f"have {scale}")
            shifted = zero_point - HALF if grid.type == "int8" else zero_point
            if grid.zero_point not in (zero_point, shifted):
                yield f"{place}.zero_point", (f"is {grid.zero_point}", f"have {shifted}")
