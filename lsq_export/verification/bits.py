"""Which codes have how many bits, what stores them, and what stays float: one line, read from the manifest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Values = Mapping[str, Any]

NAMED = 3  # layers that the line names; it counts the others
BETWEEN = "edges."  # what the names of trained grids between layers begin with


def bits(manifest: Values) -> str:
    """4-bit codes stored as INT8/UINT8; 8 bits: conv1, fc, 4 tensors between layers; float: gelu (Gelu)."""
    layers, tensors = manifest["layers"], manifest["tensors"]
    weights = _most(layer["bits"] for layer in layers)
    inputs = _most(_bits_of(tensor) for tensor in tensors if not _between(tensor))
    parts = []
    if weights is not None:
        main = (
            f"{weights}-bit codes" if inputs in (weights, None) else f"{weights}-bit weights, {inputs}-bit activations"
        )
        low = [layer for layer in layers if layer["bits"] == weights]
        low += [tensor for tensor in tensors if not _between(tensor) and _bits_of(tensor) == inputs]
        parts.append(f"{main} stored as {'/'.join(sorted({entry['container'] for entry in low}))}")
        parts += [f"{width} bits: {listed(names)}" for width, names in _others(layers, tensors, weights, inputs)]
    floats = [f"{i['name']} ({i['operator']}{', kept float' if i['wished'] else ''})" for i in manifest["islands"]]
    if floats:
        parts.append(f"float: {listed(floats)}")
    return "; ".join(parts)


def listed(names: Sequence[str]) -> str:
    """a, b, c and 4 more."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _others(
    layers: Sequence[Values], tensors: Sequence[Values], weights: int, inputs: int | None
) -> Iterable[tuple[int, list[str]]]:
    """(bits, layers and how many tensors between them have them), for all that have others than most; widest first."""
    found: dict[int, dict[str, None]] = {}
    between: Counter[int] = Counter()
    for tensor in tensors:
        if _between(tensor):
            between[_bits_of(tensor)] += _bits_of(tensor) != inputs
        elif inputs is not None and _bits_of(tensor) > inputs:  # fewer are what a clamp left of it
            found.setdefault(_bits_of(tensor), {})[tensor["name"].removesuffix(".input")] = None
    for layer in layers:
        if layer["bits"] != weights:
            found.setdefault(layer["bits"], {})[layer["name"]] = None
    for width in sorted({*found, *(width for width, count in between.items() if count)}, reverse=True):
        names, count = list(found.get(width, ())), between[width]
        counted = [f"{count} tensor{'s' if count > 1 else ''} between layers"] if count else []
        yield width, [*names, *counted] if len(names) < NAMED else [listed(names), *counted]


def _between(tensor: Values) -> bool:
    """Whether it is a grid between layers, from training or from calibration, and not the input of a layer."""
    return tensor["kind"] == "edge" or str(tensor["name"]).startswith(BETWEEN)


def _bits_of(tensor: Values) -> int:
    return math.ceil(math.log2(max(2, tensor["levels"])))


def _most(widths: Iterable[int]) -> int | None:
    """What most of them are, the narrowest of several."""
    counts = Counter(widths)
    return min(counts, key=lambda width: (-counts[width], width)) if counts else None
