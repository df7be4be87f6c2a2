"""Which codes have how many bits, what stores them, and what stays float: one line, read from the manifest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from calib.words import counted

Values = Mapping[str, Any]

NAMED = 3  # layers that the line names at most; it counts the others
LONGEST = 104  # columns, so that it is less than 120 with its label
BETWEEN = "edges."  # what the names of trained grids between layers begin with


def bits(manifest: Values) -> str:
    """4 bits in INT8/UINT8: 5 of 7 weights, 5 of 9 tensors; 8 bits: conv1, fc, 2 between layers; float: gelu (Gelu).

    Tensors are all grids of activations, those between layers among them. It names fewer layers where it gets long.
    """
    lines = (_line(manifest, named) for named in range(NAMED, 0, -1))
    return next((line for line in lines if len(line) <= LONGEST), _line(manifest, 0))


def _line(manifest: Values, named: int) -> str:
    layers, tensors = manifest["layers"], manifest["tensors"]
    weights = _most(layer["bits"] for layer in layers)
    inputs = _most(_bits_of(tensor) for tensor in tensors if not _between(tensor))
    parts = []
    if weights is not None:
        parts.append(_most_codes(layers, tensors, weights, weights if inputs is None else inputs))
        parts += [f"{width} bits: {text}" for width, text in _others(layers, tensors, weights, inputs, named)]
    floats = [f"{i['name']} ({i['operator']}{', kept float' if i['wished'] else ''})" for i in manifest["islands"]]
    if floats:
        parts.append(f"float: {listed(floats, max(named, 1))}")
    return "; ".join(parts)


def _most_codes(layers: Sequence[Values], tensors: Sequence[Values], weights: int, inputs: int) -> str:
    """What most codes have, what stores them, and how many these are, unless all."""
    low = [layer for layer in layers if layer["bits"] == weights]
    narrow = [tensor for tensor in tensors if _bits_of(tensor) <= inputs]  # fewer are what a clamp left of it
    own = [tensor for tensor in narrow if not _between(tensor) and _bits_of(tensor) == inputs]
    types = "/".join(sorted({entry["container"] for entry in (*low, *own)}))
    if len(low) == len(layers) and len(narrow) == len(tensors):
        codes = f"{weights}-bit codes" if weights == inputs else f"{weights}-bit weights, {inputs}-bit activations"
        return f"{codes} stored as {types}"
    of_weights, of_tensors = f"{len(low)} of {len(layers)}", f"{len(narrow)} of {len(tensors)}"
    if weights == inputs:
        return f"{weights} bits in {types}: {of_weights} weights, {of_tensors} tensors"
    return f"{weights}-bit weights ({of_weights}), {inputs}-bit activations ({of_tensors}) in {types}"


def listed(names: Sequence[str], named: int = NAMED) -> str:
    """a, b, c and 4 more; 7 layers, where none is to be named."""
    if not named:
        return counted(len(names), "layer")
    more = f" and {len(names) - named} more" if len(names) > named else ""
    return ", ".join(names[:named]) + more


def _others(
    layers: Sequence[Values], tensors: Sequence[Values], weights: int, inputs: int | None, named: int
) -> Iterable[tuple[int, str]]:
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
        names = list(found.get(width, ()))
        counted = [f"{between[width]} between layers"] if between[width] else []
        yield width, ", ".join([*([listed(names, named)] if names else []), *counted])


def _between(tensor: Values) -> bool:
    """Whether it is a grid between layers, from training or from calibration, and not the input of a layer."""
    return tensor["kind"] == "edge" or str(tensor["name"]).startswith(BETWEEN)


def _bits_of(tensor: Values) -> int:
    return math.ceil(math.log2(max(2, tensor["levels"])))


def _most(widths: Iterable[int]) -> int | None:
    """What most of them are, the narrowest of several."""
    counts = Counter(widths)
    return min(counts, key=lambda width: (-counts[width], width)) if counts else None
